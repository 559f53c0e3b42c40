//! The filters that the build script has compiled from `resources/seccomp`, by the kind of thread.
//! Nothing is written here by hand.

use seccompiler::sock_filter;

include!(env!("SECCOMP_RS"));
