//go:build !sbx_static

package sbx

// #cgo pkg-config: sbx
import "C"
