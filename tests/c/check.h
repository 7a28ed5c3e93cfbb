/* What the C tests share. */
#ifndef CHECK_H
#define CHECK_H
#include <sbx.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(condition)                                                             \
    do {                                                                             \
        if (!(condition)) {                                                          \
            printf("%s:%d: %s\n", __FILE__, __LINE__, #condition);                   \
            exit(1);                                                                 \
        }                                                                            \
    } while (0)
#endif
