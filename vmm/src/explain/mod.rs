//! `vmm explain`: the story of one read and one write, from both sides. The story is data; each file
//! here either collects it or shows it.

mod act;
mod areas;
mod bring_up;
mod clock;
mod console;
pub mod disk;
mod draw;
mod gpr;
mod handler;
pub mod html;
mod instruction;
mod negotiation;
mod recorder;
mod registers;
pub mod run;
#[cfg(test)]
mod sample;
mod site;
pub mod story;
mod symbols;
mod tell;
pub mod text;
mod watch;
mod why;
mod words;

pub use run::{Cut, Ending, Request, run};
