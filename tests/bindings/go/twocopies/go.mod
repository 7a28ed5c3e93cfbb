module twocopies

go 1.24

require github.com/libsbx/libsbx-go v0.0.0

replace github.com/libsbx/libsbx-go => ../../../../examples/go
