//! Tests that need root: real mounts, devices and owners, and other tools on the same store. All drivers keep one contract.
#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    reason = "a test may unwrap: the panic is its report"
)]

mod containers;
mod crash;
mod forms;
mod hostile;
mod images;
mod interop;
mod programs;
mod quotas;
mod subvolumes;
mod support;
mod tree;
mod volumes;

/// Declares the tests for each driver.
macro_rules! contract {
    ($($module:ident::$test:ident),* $(,)?) => {
        contract!(@driver overlay $($module::$test),*);
        contract!(@driver vfs $($module::$test),*);
        contract!(@driver btrfs $($module::$test),*);
        contract!(@driver devicemapper $($module::$test),*);
    };
    (@driver $driver:ident $($module:ident::$test:ident),*) => {
        mod $driver {
            $(
                #[test]
                fn $test() {
                    crate::$module::$test(stringify!($driver));
                }
            )*
        }
    };
}

contract! {
    containers::a_container_lives_from_record_to_removal,
    containers::a_container_has_its_label,
    containers::an_image_in_use_stays,
    containers::an_image_is_mounted_read_only,
    containers::many_threads_and_openings_make_and_remove_containers_at_once,
    crash::leftovers_of_every_kind_are_collected,
    crash::a_layer_without_its_container_is_collected,
    crash::half_made_layers_are_removed_when_the_store_is_opened,
    crash::a_failed_unpack_leaves_nothing,
    forms::trees_survive_every_format_of_gnu_tar,
    forms::sparse_files_survive_every_version,
    forms::extended_attributes_and_capabilities_are_kept,
    forms::whiteouts_hide_what_is_below,
    hostile::archives_are_refused_or_what_tar_makes_of_them,
    hostile::layers_cannot_reach_through_those_below,
    images::an_image_is_found_by_all_it_is_called,
    images::names_move_and_leave_their_history,
    images::deleting_takes_the_layers_that_nothing_else_needs,
    images::equal_layers_are_stored_once_even_when_committed_at_the_same_time,
}

/// With drivers that keep layers in directories: these are damaged, lie below several roots, and other tools know them.
mod directories {
    contract!(@driver overlay
        crash::damage_is_found,
        images::images_of_an_additional_store_are_used_and_not_changed,
        images::an_image_store_holds_images_and_their_layers_apart_from_containers,
        interop::podman_lists_inspects_and_runs_our_image,
        interop::skopeo_copies_our_layers_out_bit_for_bit,
        interop::we_read_and_use_what_skopeo_and_buildah_wrote,
        interop::both_write_at_the_same_time_and_nothing_is_lost);
    contract!(@driver vfs
        crash::damage_is_found,
        images::images_of_an_additional_store_are_used_and_not_changed,
        images::an_image_store_holds_images_and_their_layers_apart_from_containers,
        interop::podman_lists_inspects_and_runs_our_image,
        interop::skopeo_copies_our_layers_out_bit_for_bit,
        interop::we_read_and_use_what_skopeo_and_buildah_wrote,
        interop::both_write_at_the_same_time_and_nothing_is_lost);
    contract!(@driver btrfs
        crash::damage_is_found,
        images::images_of_an_additional_store_are_used_and_not_changed,
        images::an_image_store_holds_images_and_their_layers_apart_from_containers,
        interop::podman_lists_inspects_and_runs_our_image,
        interop::skopeo_copies_our_layers_out_bit_for_bit,
        interop::we_read_and_use_what_skopeo_and_buildah_wrote,
        interop::both_write_at_the_same_time_and_nothing_is_lost);
}
