module github.com/libsbx/libsbx-go

go 1.24
