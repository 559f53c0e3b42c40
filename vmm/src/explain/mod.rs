//! `vmm explain`: the story of one read and one write, from both sides. The story is data; each file
//! here either collects it or shows it.

#[cfg(test)]
mod sample;
pub mod story;
pub mod text;
mod words;
