# Bash parts words at colons and at =: --to=unix:PATH would be five. They are one again before stasis is asked.
_stasis_joined() {
    local joined=() place=0 index word
    for index in "${!COMP_WORDS[@]}"; do
        word=${COMP_WORDS[index]}
        if ((index > 1 && index != COMP_CWORD)) && [[ $word == [:=] || ${joined[-1]} == *[:=] ]]; then
            joined[-1]+=$word
        else
            joined+=("$word")
        fi
        if ((index == COMP_CWORD)); then
            place=$((${#joined[@]} - 1))
        fi
    done
    local COMP_WORDS=("${joined[@]}") COMP_CWORD=$place
    _clap_complete_stasis "$@"
}
complete -o nospace -o bashdefault -F _stasis_joined stasis
