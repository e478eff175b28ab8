//! bridge, host-local, loopback and portmap behind the Plugin trait.
