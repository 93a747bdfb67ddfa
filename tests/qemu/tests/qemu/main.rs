//! Boots QEMU, with Stasis or without it, and looks at what happens.
//!
//! `cargo xtask test NAME` runs those with NAME in their name. Every machine has a time limit; a
//! failure shows the ends of all transcripts. `STASIS_TIME_FACTOR=3` is for machines that are three
//! times as slow.

mod board;
mod channel;
mod clearing;
mod clones;
mod clones_long;
mod console;
mod contained;
mod conversion;
mod crossing;
mod damage;
mod debian_long;
mod debug;
mod debug_lldb;
mod devices;
mod disks;
mod examples;
mod fidelity_long;
mod fidelity_network_long;
mod fidelity_tools_long;
mod firmware;
mod golden;
mod handlers;
mod images;
mod ipi;
mod lean;
mod linux;
mod list_registers;
mod live;
mod lost;
mod network;
mod network_long;
mod off;
mod on_demand;
mod on_demand_devices;
mod on_demand_linux_long;
mod one_to_one;
mod others;
mod overcommit;
mod periodic;
mod periodic_long;
mod power;
mod power_long;
mod recovery;
mod registers;
mod replugged;
mod resume;
mod routines;
mod same_machine;
mod sched;
mod sd;
mod sets;
mod sgis;
mod shared;
mod since;
mod slow_put;
mod smp;
mod soak;
mod soak_long;
mod storable;
mod sweep;
mod terminal;
mod times;
mod travel_accelerated_long;
mod travel_around_long;
mod travel_disks_long;
mod travel_handler_long;
mod travel_kvm;
mod travel_kvm_long;
mod travel_kvm_refused_long;
mod travel_probe_long;
mod travel_qemu;
mod travel_qemu_long;
mod travel_streams;
mod twins;
mod uplink;
mod uplink_long;
mod values;
mod virtio;
mod volumes;
mod volumes_bad;
mod volumes_kept;
mod volumes_long;

use std::num::NonZero;
use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};
use stasis_qemu_tests::lab::{Built, Lab};

/// What the names of modules end in whose tests run only if a name is asked for: they take long.
const BY_NAME: &str = "_long::";
/// The variable that makes this program `stasis`.
const AS_TOOL: &str = "STASIS_TEST_AS_TOOL";

/// The tests of each module, by name.
macro_rules! trials {
    ($($module:ident: $($test:ident),+;)+) => {
        vec![$($(
            Trial::test(concat!(stringify!($module), "::", stringify!($test)), || {
                Lab::run(concat!(stringify!($module), "_", stringify!($test)), $module::$test).map_err(Into::into)
            }),
        )+)+]
    };
}

fn main() -> ExitCode {
    // A test starts this program as the users' tool.
    if std::env::var_os(AS_TOOL).is_some() {
        return stasis_tool::cli::main();
    }
    let mut arguments = Arguments::from_args();
    // A machine keeps one core busy at the most times: others of its cores wait, or it waits for
    // the test.
    let machines = std::thread::available_parallelism().map_or(1, NonZero::get);
    arguments.test_threads.get_or_insert(machines);
    let mut trials = trials! {
        board:
            raspi4_comes_up_with_all_its_cores,
            raspi4_has_its_console_on_either_uart,
            started_at_el1_it_says_so,
            a_machine_without_a_gicv2_is_named,
            a_device_tree_without_a_console_is_told_of_all_the_same,
            raspi4_gives_guests_memory_above_a_gigabyte,
            a_card_image_boots_and_keeps_checkpoints,
            a_counter_crosses_to_raspi4_and_back,
            linux_crosses_to_virt_and_back;
        channel:
            requests_are_answered_beside_a_person_at_a_guest,
            lists_and_a_wish_to_give_up_are_heard_during_a_checkpoint,
            what_happens_to_a_guest_is_told_to_who_waits,
            two_at_a_guests_terminal_see_the_same_beside_the_console,
            who_is_attached_gets_the_last_words_of_a_guest_that_is_removed,
            what_guests_send_goes_to_files_and_a_shell_is_offered_their_names,
            a_window_that_is_missed_is_told,
            many_tools_share_a_session,
            a_checkpoint_is_fetched_and_sent_back_while_the_machine_runs,
            ctrl_c_gives_up_what_a_tool_has_asked_for,
            noise_and_other_versions_are_answered_or_dropped,
            the_consoles_line_is_the_channels_while_a_client_has_it,
            raspi4_has_its_channel_on_the_mini_uart;
        slow_put:
            commands_and_the_help_for_guests_go_on_while_a_checkpoint_comes;
        lost:
            tools_tell_that_the_machine_was_reset_in_the_midst;
        virtio:
            linux_and_its_clone_read_random_bytes_before_and_after_a_resume,
            random_bytes_are_there_at_once_in_pages_that_a_clone_shares,
            a_machine_without_a_seed_says_that_it_has_no_random_bytes,
            a_newer_linux_makes_its_random_numbers_anew_after_a_resume,
            linux_writes_and_reads_its_disk,
            linux_sees_what_it_sees_on_plain_qemu,
            u_boot_reads_what_it_has_written_to_a_disk;
        terminal:
            linux_talks_at_its_terminal_before_and_after_a_resume,
            a_guest_without_a_terminal_is_told_of;
        network:
            two_guests_send_each_other_all_and_neither_has_the_others_address,
            a_clone_talks_when_it_has_an_address_of_its_own,
            a_guest_that_gets_no_frame_for_all_is_named;
        network_long:
            four_guests_send_to_each_other_all_at_once,
            who_reads_slowly_or_stands_still_gets_all_and_holds_up_nobody;
        uplink:
            linux_gets_an_address_and_pages_from_the_host_before_and_after_a_resume,
            an_uplink_that_is_not_there_is_said_and_the_guests_run,
            a_flood_from_outside_takes_nothing_of_a_window;
        volumes:
            what_linux_has_flushed_is_there_after_a_power_cut,
            stop_tells_that_what_a_guest_has_written_is_not_on_the_disk,
            a_checkpoint_has_the_disk_as_of_its_instant,
            a_clone_has_a_disk_of_its_own_from_the_same_instant;
        volumes_bad:
            disks_that_can_not_be_had_are_named_and_the_others_run,
            a_restart_that_is_refused_accepts_no_lost_writes,
            a_write_without_room_is_an_error_of_the_guests_and_one_line;
        volumes_kept:
            a_guest_that_resets_keeps_its_disk_where_its_checkpoint_has_it_off,
            a_checkpoint_that_came_without_its_disk_is_not_resumed_on_another,
            what_a_guest_that_is_removed_has_written_is_in_the_store,
            a_guest_has_its_disk_while_a_client_sends_a_checkpoint;
        volumes_long:
            a_disk_that_was_brought_back_without_a_person_is_said_with_what_it_had_become,
            a_clone_that_has_no_memory_for_what_its_disk_reads_waits_and_goes_on;
        fidelity_long:
            an_ext4_and_resets_amid_requests_are_as_on_plain_qemu;
        fidelity_network_long:
            two_guests_under_load_are_as_between_two_machines_of_qemus;
        fidelity_tools_long:
            a_whole_disk_is_copied_as_on_plain_qemu,
            fio_with_checksums_is_as_on_plain_qemu,
            a_btrfs_is_as_on_plain_qemu,
            another_kernel_finds_live_devices_as_on_plain_qemu;
        debian_long:
            debian_and_its_neighbour_go_on_after_a_loss_of_power;
        firmware:
            what_it_leaves_in_el2s_registers_makes_no_difference,
            a_cpu_may_have_more_than_a_cortex_a72,
            what_newer_cpus_add_is_undefined_in_a_guest;
        live:
            a_guest_that_writes_meanwhile_is_stored_as_it_was,
            a_guest_stands_still_for_its_registers_and_not_for_its_memory,
            a_machine_without_room_for_what_a_guest_overwrites_says_so_and_has_it_back;
        since:
            a_checkpoint_that_shares_is_bit_for_bit_a_whole_one,
            the_first_one_is_deleted_and_the_second_one_is_resumed,
            a_store_of_version_2_is_upgraded_with_what_is_in_it,
            a_damaged_parent_costs_one_checkpoint_and_no_guest,
            a_disk_that_is_full_between_two_checkpoints_loses_no_page,
            a_second_checkpoint_of_an_idle_linux_is_a_fiftieth_of_the_first;
        on_demand:
            a_guest_goes_on_at_once_and_finds_all_of_its_memory,
            a_guest_is_read_twice_where_there_is_no_room_for_two,
            what_was_loaded_is_bit_for_bit_what_was_stored,
            a_damaged_page_stops_its_guest_by_name_and_no_other,
            a_guest_waits_for_a_disk_that_fails,
            a_card_that_is_pulled_is_waited_for_and_another_one_is_told_from_it,
            what_a_linux_has_touched_first_is_loaded_first,
            a_checkpoint_is_needed_until_all_of_it_is_loaded;
        on_demand_devices:
            a_disk_is_read_and_what_is_typed_is_taken_before_all_memory_is_there;
        on_demand_linux_long:
            a_linux_has_its_disk_and_its_network_before_all_of_its_memory_is_there;
        clearing:
            a_guest_of_three_gib_finds_zeros,
            who_gets_the_memory_of_another_finds_zeros_whatever_is_done;
        clones:
            original_and_clones_go_on_from_the_instant_and_see_nothing_of_each_other,
            a_clone_is_bit_for_bit_its_original,
            a_clone_is_stored_and_resumed_and_outlives_its_original,
            a_guest_without_memory_waits_and_goes_on_when_another_is_removed,
            a_guest_without_memory_for_what_is_loaded_waits_and_loses_nothing,
            a_guest_takes_memory_as_it_writes_if_it_is_configured_so,
            what_can_not_be_cloned_is_named,
            a_linux_and_its_clone_go_on;
        clones_long:
            a_clone_of_256_mib_takes_at_most_300_000_instructions,
            sixteen_linux_fit_in_1_gib;
        console:
            mistyped_input_gets_an_answer,
            help_knows_every_command,
            a_paused_guest_stands_still,
            a_guests_gic_can_be_shown,
            tab_completes_commands_guests_and_checkpoints,
            a_guests_log_can_be_seen_attached_or_not,
            the_shares_that_top_shows_add_up,
            a_look_at_a_guest_does_not_disturb_it,
            a_guest_is_stopped_and_started_again, several_guests_are_commanded_at_a_time,
            the_tables_are_there_for_programs,
            an_answer_is_one_piece_whatever_the_log_says_meanwhile,
            what_takes_long_can_be_given_up_and_changes_nothing,
            a_tool_at_a_socket_of_qemus_is_a_terminal_of_stasis;
        sets:
            three_guests_are_stored_at_one_instant_and_resumed,
            a_set_comes_to_a_machine_that_has_none_of_it,
            a_set_that_does_not_fit_is_not_there_in_part,
            a_second_copy_runs_beside_the_first,
            copies_that_are_removed_leave_their_place_to_others;
        shared:
            three_guests_ring_each_other_and_are_resumed_as_a_set,
            a_guest_resumed_alone_finds_the_memory_as_the_others_have_it,
            damaged_memory_that_guests_share_is_known_before_anything_is_changed,
            what_nobody_should_do_with_a_doorbell_harms_nobody,
            linux_asks_a_guest_through_shared_memory;
        images:
            elf_raw_and_linux_images_are_told_apart,
            bare_code_finds_its_device_tree_where_qemu_puts_it,
            an_image_that_is_none_is_named,
            bare_code_must_be_said_to_be_that,
            an_elf_file_for_another_machine_is_named,
            memory_that_does_not_fit_is_named,
            an_image_that_does_not_fit_its_memory_is_named,
            a_missing_image_or_initrd_is_named,
            an_archive_that_is_none_is_named,
            a_kernel_whose_pages_the_cpu_has_not_is_named,
            a_kernel_with_pages_of_16_kib_finds_them_and_goes_nowhere_without,
            no_archive_is_named;
        debug:
            gdb_stops_steps_and_leaves_a_guest_which_notices_nothing,
            a_guest_that_is_debugged_is_stored_without_its_breakpoints,
            a_checkpoint_of_a_guest_that_runs_to_a_breakpoint_has_none_of_it,
            each_step_is_one_instruction_also_where_el2_answers_it,
            a_neighbour_keeps_its_windows_while_a_guest_is_debugged,
            gdb_sees_both_vcpus_of_a_linux_and_interrupts_it;
        debug_lldb:
            lldb_stops_steps_and_leaves_a_guest_which_notices_nothing,
            lldb_sees_both_vcpus_of_a_linux;
        devices:
            a_devices_interrupts_reach_its_guest_while_others_have_its_core,
            a_devices_interrupt_comes_in_the_midst_of_a_command,
            a_device_that_cannot_be_given_is_named,
            linux_drives_the_machines_clock,
            linux_reads_and_writes_a_disk_of_the_machines,
            a_disk_without_trust_or_of_stasiss_own_is_refused;
        one_to_one:
            linux_is_resumed_where_others_have_its_addresses,
            a_checkpoint_with_its_memory_elsewhere_is_not_put_in_a_guests_place,
            what_can_not_have_its_memory_there_is_named;
        examples:
            each_comes_up_by_the_command_in_its_first_line;
        disks:
            no_disk,
            no_partition,
            a_disk_of_larger_blocks_is_named,
            no_store_in_the_partition,
            a_full_store,
            a_store_of_a_newer_version,
            a_disk_that_fails_during_a_checkpoint,
            checkpoints_that_will_come_to_nothing_are_warned_of,
            a_full_host_fails_the_checkpoint_and_not_the_machine,
            a_host_tool_keeps_off_the_disk_of_a_running_machine;
        sd:
            no_card,
            a_card_without_the_partition,
            cards_of_either_capacity_take_a_guest_to_another_machine,
            a_full_card,
            a_card_that_drops_a_write_during_a_checkpoint,
            a_card_pulled_during_a_checkpoint_works_again_when_it_is_put_back,
            a_card_that_is_exchanged_between_two_commands_is_the_one_that_is_used,
            qemu_killed_during_a_checkpoint_loses_nothing_older;
        damage:
            a_file_cut_short,
            one_bit_flipped,
            a_newer_version,
            a_name_that_could_be_a_commands_goes_on_under_another,
            more_vcpus_than_the_guest_has_here,
            more_memory,
            another_counter_frequency,
            another_cpu;
        values:
            any_value_in_a_register_leaves_all_others_as_they_were,
            every_cpu_goes_on_with_what_it_has_and_refuses_the_rest;
        replugged:
            a_guest_that_is_restarted_with_another_slot_for_its_card_is_heard;
        resume:
            a_counter_goes_on_in_another_machine,
            a_counter_goes_on_after_its_checkpoint,
            a_guest_is_taken_back_in_its_own_machine,
            what_a_guest_writes_for_the_first_time_goes_with_it,
            a_resumed_hash_is_that_of_a_guest_that_was_never_stored,
            many_generations,
            checkpoint_resume_checkpoint_is_the_same,
            checkpoint_resume_checkpoint_in_a_handler_is_the_same;
        crossing:
            a_guests_seconds_stay_as_long_on_a_slower_board_and_back,
            a_faster_board_is_refused_unless_any_speed_will_do,
            a_configured_frequency_crosses_both_ways,
            a_counter_goes_on_on_a_slower_board,
            linux_goes_on_on_a_slower_board_with_another_cpu,
            linux_goes_between_a_cortex_a72_and_an_a76,
            a_guest_goes_on_on_every_cpu,
            a_guest_that_is_not_portable_goes_on_where_caches_need_no_more;
        golden:
            the_golden_files_of_running_guests_go_on;
        handlers:
            a_transcript_is_that_of_plain_qemu,
            checkpoints_inside_handlers_change_nothing,
            a_guest_is_taken_back_out_of_a_handler;
        power:
            qemu_killed_during_a_checkpoint_loses_nothing_older;
        contained:
            accesses_of_every_kind_to_devices_and_code_in_them,
            memory_that_is_not_its_own,
            malformed_and_misplaced_translation_tables,
            firmware_calls_full_of_garbage,
            every_system_register_and_instruction,
            cache_maintenance_by_set_and_way,
            storms_of_interrupts,
            a_flood_of_sgis_between_its_vcpus,
            a_flood_of_exits,
            queues_full_of_garbage_that_changes,
            large_requests_of_a_disk,
            vcpus_on_two_cores_that_make_each_other_stand_still,
            all_attacks_leave_a_neighbour_as_it_was,
            a_guest_that_ends_harms_nobody;
        overcommit:
            a_guest_that_has_taken_most_of_the_memory_goes_on_from_its_newest_checkpoint;
        power_long: whatever_is_under_way_each_checkpoint_is_whole_or_absent;
        recovery:
            a_guest_that_crashes_goes_on_from_its_last_checkpoint,
            a_checkpoint_that_does_not_help_or_is_damaged_is_passed_over,
            a_guest_that_crashes_again_and_again_is_left_alone,
            a_guest_that_is_to_stop_on_a_reset_stops,
            a_guest_that_switches_its_machine_off_by_smc_ends_alone,
            a_watchdog_that_is_not_fed_ends_its_guest,
            a_watchdog_that_was_not_configured_is_not_there,
            periodic_checkpoints_of_an_ill_guest_neither_replace_nor_push_out_older_ones;
        off:
            a_guest_that_is_off_stays_off_when_it_is_resumed;
        periodic:
            periodic_checkpoints_are_made_and_the_newest_kept,
            a_periodic_checkpoint_that_fails_is_said_once,
            the_console_waits_for_one_periodic_checkpoint_at_the_most,
            a_command_comes_before_a_periodic_checkpoint_that_is_made_then;
        periodic_long:
            a_guest_runs_half_of_the_time_however_slow_its_disk_is;
        registers:
            each_is_its_vcpus_own_over_switches_checkpoint_and_resume,
            plain_qemu_keeps_them_too;
        sweep:
            a_neighbour_finds_nothing_on_a_cortex_a57,
            a_neighbour_finds_nothing_on_a_cortex_a72,
            a_neighbour_finds_nothing_on_a_cpu_of_all_features;
        routines:
            what_is_done_to_many_bytes_at_once_is_what_is_done_to_each;
        same_machine:
            probe_sees_what_it_sees_on_plain_qemu;
        times:
            a_timer_set_to_never_leaves_its_guest_alone;
        lean:
            guests_run_and_start_again_beside_a_window,
            a_window_is_kept_beside_a_guest_that_prints_as_fast_as_it_can,
            what_it_can_not_serve_is_refused_by_its_key;
        linux:
            linux_goes_on_in_another_machine,
            linux_that_resets_its_machine_starts_again,
            linux_feeds_its_watchdog_until_it_can_not,
            a_pressed_power_key_shuts_linux_down_also_after_a_resume,
            a_break_on_the_console_is_a_sysrq_of_linux;
        ipi:
            two_cpus_see_what_they_see_on_plain_qemu;
        list_registers:
            the_real_list_registers_are_what_stasis_has_programmed;
        sched:
            shares_are_as_the_weights_and_who_waits_has_none,
            a_window_is_its_guests_whatever_its_neighbour_does,
            weights_and_windows_are_changed_while_guests_run,
            a_window_is_kept_while_a_neighbour_is_stored_and_resumed,
            debug_registers_are_each_guests_own;
        smp:
            linux_is_stored_and_resumed_under_load_many_times,
            linux_has_four_vcpus_on_two_cores;
        storable:
            a_guest_that_stores_at_random_to_its_gic;
        soak:
            every_tick_is_in_its_window,
            two_cores_at_once_lose_nothing;
        uplink_long: pages_come_after_each_of_many_resumes;
        soak_long: a_thousand_checkpoints_and_resumes_and_their_clones_lose_nothing;
        travel_qemu:
            a_counter_goes_on_in_qemu_and_comes_back,
            a_counter_that_began_in_qemu_goes_on_in_stasis,
            a_round_trip_through_qemu_changes_nothing_but_what_is_told;
        travel_accelerated_long:
            a_counter_goes_on_in_qemu_with_kvm_and_comes_back,
            a_counter_goes_on_in_qemu_with_an_older_kvm_and_comes_back,
            a_counter_that_began_in_qemu_with_kvm_goes_on_in_stasis,
            linux_with_two_vcpus_goes_on_in_qemu_with_kvm_and_comes_back,
            two_vcpus_amid_their_sgis_go_on_in_qemu_with_kvm_and_come_back,
            a_guest_that_is_told_of_stolen_time_is_refused;
        travel_around_long:
            a_counter_goes_around_both_ways,
            linux_with_two_vcpus_goes_around,
            linux_with_two_vcpus_goes_around_the_other_way,
            two_vcpus_amid_their_sgis_go_around,
            two_vcpus_amid_their_sgis_go_around_the_other_way,
            two_vcpus_amid_their_sgis_go_by_the_other_four_directions;
        travel_disks_long:
            linux_with_a_disk_and_a_card_goes_on_in_qemu_and_comes_back,
            linux_that_writes_goes_on_in_qemu_and_comes_back,
            linux_with_a_disk_goes_on_on_a_kvm_and_comes_back,
            linux_with_a_disk_and_a_card_goes_on_in_qemu_with_kvm_and_comes_back;
        travel_kvm:
            a_counter_goes_on_on_a_kvm_and_comes_back,
            linux_goes_on_on_a_kvm_and_comes_back;
        travel_kvm_long:
            a_counter_goes_from_kvm_to_kvm,
            linux_goes_on_with_vhe,
            linux_goes_on_with_vhe_on_an_older_kernel,
            no_time_passes_for_a_guest_while_its_checkpoint_is_written,
            sgis_in_the_midst_are_all_taken;
        travel_handler_long:
            every_point_of_handler_comes_back_from_a_kvm_as_it_went,
            every_point_of_handler_prints_on_a_kvm_what_is_told;
        travel_probe_long:
            probe_sees_elsewhere_what_is_told;
        travel_kvm_refused_long:
            what_can_not_run_is_refused_in_one_line,
            a_physical_timer_that_is_on_is_refused_by_an_older_kvm,
            a_guest_goes_on_after_a_full_disk_and_a_mistyped_key;
        travel_qemu_long:
            every_point_of_handler_prints_in_qemu_what_it_prints_in_stasis,
            every_point_of_handler_comes_back_from_qemu_as_it_went,
            two_vcpus_come_back_from_qemu_as_they_went,
            two_vcpus_amid_their_sgis_go_on_in_qemu_to_their_end,
            a_counter_goes_from_raspi4_to_qemu_and_back,
            linux_with_two_vcpus_goes_on_in_qemu_and_comes_back,
            linux_with_two_vcpus_goes_from_raspi4_to_qemu_and_back,
            linux_that_began_in_qemu_goes_on_in_stasis;
        travel_streams:
            a_stream_that_is_cut_anywhere_is_refused,
            a_machine_that_stasis_does_not_have_is_named,
            a_stream_of_another_version_or_accelerator_is_named;
        conversion:
            qemu_loads_a_state_and_saves_the_same,
            the_gich_of_a_machine_of_qemus_is_read;
        others:
            u_boot_reaches_its_prompt,
            arceos_sees_what_it_sees_on_plain_qemu,
            arceos_goes_on_in_another_machine;
    };
    if arguments.filter.is_none() && !arguments.list {
        trials.retain(|trial| !trial.name().contains(BY_NAME));
    }
    if !arguments.list
        && let Err(error) = Built::get()
    {
        eprintln!("{error:#}");
        return ExitCode::FAILURE;
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}
