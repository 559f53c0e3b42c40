//! Everything the guest can see, and nothing of KVM.
