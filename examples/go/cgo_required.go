//go:build !cgo

package sbx

// Without cgo this is the first error, and the only one that matters.
var _ = libsbx_is_a_C_library__set_CGO_ENABLED_1_and_install_a_C_compiler
