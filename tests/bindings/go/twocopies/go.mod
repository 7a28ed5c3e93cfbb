module twocopies

go 1.24

require libsbx.example/sbx v0.0.0

replace libsbx.example/sbx => ../../../../examples/go
