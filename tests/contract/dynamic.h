/* The library by dlopen, as bindings load it. */
#ifndef DYNAMIC_H
#define DYNAMIC_H
#include "host.h"
#include <dlfcn.h>

typedef struct {
    void *library;
    int (*config_new)(sbx_config **, sbx_error *);
    void (*config_free)(sbx_config *);
    int (*command)(sbx_config *, const char *const *, size_t);
    int (*create)(sbx_runtime *, const sbx_config *, sbx_sandbox **, sbx_error *);
    int (*wait)(sbx_sandbox *, int64_t, sbx_exit *, sbx_error *);
    int (*terminate)(sbx_sandbox *, sbx_error *);
    int (*state)(const sbx_sandbox *);
    void (*free)(sbx_sandbox *);
} api;

static void *find(void *library, const char *name) {
    void *function = dlsym(library, name);
    CHECK(function != NULL);
    return function;
}

static api load(const char *path) {
    api it = {.library = dlopen(path, RTLD_NOW | RTLD_LOCAL)};
    if (it.library == NULL)
        printf("%s\n", dlerror());
    CHECK(it.library != NULL);
    *(void **)&it.config_new = find(it.library, "sbx_config_new");
    *(void **)&it.config_free = find(it.library, "sbx_config_free");
    *(void **)&it.command = find(it.library, "sbx_config_set_command");
    *(void **)&it.create = find(it.library, "sbx_create");
    *(void **)&it.wait = find(it.library, "sbx_wait");
    *(void **)&it.terminate = find(it.library, "sbx_terminate");
    *(void **)&it.state = find(it.library, "sbx_sandbox_state");
    *(void **)&it.free = find(it.library, "sbx_sandbox_free");
    return it;
}

static sbx_sandbox *start(const api *it, const char *text) {
    const char *argv[] = {"sh", "-c", text};
    sbx_config *config = NULL;
    sbx_sandbox *sandbox = NULL;
    OK(it->config_new(&config, &error));
    CHECK(it->command(config, argv, 3) == 0);
    OK(it->create(NULL, config, &sandbox, &error));
    it->config_free(config);
    return sandbox;
}
#endif
