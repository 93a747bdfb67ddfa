#!/bin/bash
# loop ADDRESS: counts. Each step goes to a file on the disk, which is flushed, and over a connection to a neighbour that sends it back.
# The next hash is that of the whole file, so all later hashes are wrong if a byte of it is.
file=/var/www/html/loop
exec 3<> /dev/tcp/$1/7000 || exit
: > $file
n=0
while :; do
    n=$((n + 1))
    hash=$(sha256sum < $file)
    hash=${hash:0:16}
    echo "$n $hash" >> $file
    sync --data $file
    echo "loop $n hash $hash" >&3
    read -r -t 60 answer <&3 || break
    echo "$answer"
    sleep 0.1
done
echo "FAULT: the connection to the neighbour has ended"
