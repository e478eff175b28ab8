//! CNI network lists, the Plugin trait, exec of foreign plugins, result cache.
