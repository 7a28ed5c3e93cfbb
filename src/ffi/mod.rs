//! The C ABI: every extern "C" function, every raw pointer, handles.
