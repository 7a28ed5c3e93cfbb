module libsbx.example/sbx

go 1.24
