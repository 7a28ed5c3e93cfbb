// A plug-in with a copy of the library of its own, which nothing outside sees.

#include "sbx.hpp"

extern "C" __attribute__((visibility("default"))) int plugin_run(const char *text) {
    sbx::config config;
    config.command({"sh", "-c", text});
    return sbx::sandbox(config).wait().code;
}

extern "C" __attribute__((visibility("default"))) int plugin_state(sbx_sandbox *sandbox) {
    return sbx_sandbox_state(sandbox);
}
