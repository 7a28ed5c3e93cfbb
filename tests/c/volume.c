/* Volumes: made, found, listed, removed, and every wrong argument. With SBX_RUNSC a sandbox has one, too. */
#define _GNU_SOURCE
#include "check.h"
#include <errno.h>
#include <poll.h>
#include <unistd.h>

static char directory[] = "/tmp/sbx-c-volume-XXXXXX";

/* Waits for an operation and frees it. */
static int ended(sbx_operation *operation, sbx_error *error) {
    int code = sbx_operation_wait(operation, 60000, error);
    sbx_operation_free(operation);
    return code;
}

static void wrong_arguments(sbx_runtime *runtime, sbx_queue *queue) {
    sbx_error error = SBX_ERROR_INIT;
    sbx_operation *operation = NULL;
    sbx_volume_list *list = NULL;
    sbx_volume_summary summary = SBX_VOLUME_SUMMARY_INIT;
    sbx_config *config = NULL;
    CHECK(sbx_volume_create_begin(runtime, NULL, 0, queue, 1, &operation, &error) == SBX_EINVALID);
    CHECK(sbx_volume_create_begin(runtime, "Bad", 0, queue, 1, &operation, &error) == SBX_EINVALID);
    CHECK(strstr(error.message, "\"Bad\"") != NULL);
    CHECK(sbx_volume_create_begin(runtime, "a", SBX_VOLUME_CREATE, queue, 1, &operation, &error) == SBX_EINVALID);
    CHECK(sbx_volume_create_begin((sbx_runtime *)queue, "a", 0, NULL, 1, &operation, &error) == SBX_EHANDLE);
    CHECK(sbx_volume_create_begin(runtime, "a", 0, queue, 1, NULL, &error) == SBX_EINVALID);
    CHECK(sbx_volume_find_begin(runtime, "..", queue, 1, &operation, &error) == SBX_EINVALID);
    CHECK(sbx_volume_remove_begin(runtime, "a/b", queue, 1, &operation, &error) == SBX_EINVALID);
    CHECK(sbx_volume_list_begin(runtime, queue, 1, NULL, &error) == SBX_EINVALID);
    CHECK(operation == NULL);
    /* What was refused has no event. */
    sbx_event event = SBX_EVENT_INIT;
    CHECK(sbx_queue_next(queue, &event, NULL) == 0);

    CHECK(sbx_operation_volumes(NULL, &list, &error) == SBX_EHANDLE && list == NULL);
    CHECK(sbx_volume_list_count(NULL) == SBX_EHANDLE);
    CHECK(sbx_volume_list_entry(NULL, 0, &summary) == SBX_EHANDLE && summary.name == NULL);
    sbx_volume_list_free(NULL);

    const struct {
        const char *name, *destination, *sub_path;
        uint32_t flags;
    } wrong[] = {
        {NULL, "/v", NULL, 0},          {"", "/v", NULL, 0},       {".a", "/v", NULL, 0},
        {"a", NULL, NULL, 0},           {"a", "v", NULL, 0},       {"a", "/proc/v", NULL, 0},
        {"a", "/v", "/abs", 0},         {"a", "/v", "b/../c", 0},  {"a", "/v", "\xff", 0},
        {"a", "/v", NULL, SBX_VOLUME_EXCLUSIVE},                   {"a", "/v", NULL, 1u << 31},
        {"a", "/v", NULL, SBX_VOLUME_CREATE_SUB_PATH},
        {"a", "/v", "b", SBX_VOLUME_CREATE_SUB_PATH | SBX_VOLUME_READ_ONLY},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        CHECK(sbx_config_new(&config, NULL) == 0);
        CHECK(sbx_config_add_volume(config, wrong[i].name, wrong[i].destination, wrong[i].sub_path, wrong[i].flags) ==
              SBX_EINVALID);
        /* It is kept, as any bad value is. */
        CHECK(sbx_config_check(config, &error) == SBX_EINVALID);
        sbx_config_free(config);
    }
    CHECK(sbx_config_new(&config, NULL) == 0);
    CHECK(sbx_config_add_volume(config, "a", "/v", "b", SBX_VOLUME_CREATE | SBX_VOLUME_CREATE_SUB_PATH) == 0);
    CHECK(sbx_config_add_mount(config, "/srv", "/v/", SBX_MOUNT_READ_ONLY) == SBX_EINVALID);
    sbx_config_free(config);
}

static void made_and_removed(sbx_runtime *runtime, sbx_queue *queue) {
    sbx_error error = SBX_ERROR_INIT;
    sbx_operation *operation = NULL;
    sbx_volume_list *list = NULL;
    sbx_volume_summary summary = SBX_VOLUME_SUMMARY_INIT;
    sbx_image *image = NULL;
    CHECK(sbx_volume_create_begin(runtime, "data", SBX_VOLUME_EXCLUSIVE, queue, 7, &operation, &error) == 0);
    CHECK(sbx_operation_wait(operation, 60000, &error) == 0);
    sbx_event event = SBX_EVENT_INIT;
    CHECK(sbx_queue_next(queue, &event, NULL) == 1 && event.kind == SBX_EVENT_OPERATION_DONE && event.cookie == 7);
    CHECK(sbx_operation_image(operation, &image, &error) == SBX_EINVALID && image == NULL);
    CHECK(sbx_operation_volumes(operation, NULL, &error) == SBX_EINVALID);
    CHECK(sbx_operation_volumes(operation, &list, &error) == 0 && sbx_volume_list_count(list) == 1);
    sbx_operation_free(operation);
    CHECK(sbx_volume_list_entry(list, 1, &summary) == SBX_ENOTFOUND);
    summary.size = 1;
    CHECK(sbx_volume_list_entry(list, 0, &summary) == SBX_ESIZE);
    summary.size = 0;
    CHECK(sbx_volume_list_entry(list, 0, &summary) == 0);
    CHECK(strcmp(summary.name, "data") == 0 && summary.in_use == 0 && summary.created_ms > 0);
    CHECK(strncmp(summary.path, directory, strlen(directory)) == 0 && access(summary.path, W_OK) == 0);
    sbx_volume_list_free(list);
    CHECK(sbx_volume_list_count(list) == SBX_EHANDLE);

    CHECK(sbx_volume_create_begin(runtime, "data", SBX_VOLUME_EXCLUSIVE, NULL, 0, &operation, &error) == 0);
    CHECK(ended(operation, &error) == SBX_EEXISTS && strstr(error.message, "\"data\"") != NULL);
    CHECK(sbx_volume_create_begin(runtime, "data", 0, NULL, 0, &operation, &error) == 0);
    CHECK(ended(operation, &error) == 0);
    CHECK(sbx_volume_list_begin(runtime, NULL, 0, &operation, &error) == 0);
    CHECK(sbx_operation_wait(operation, 60000, &error) == 0);
    CHECK(sbx_operation_volumes(operation, &list, &error) == 0 && sbx_volume_list_count(list) == 1);
    sbx_volume_list_free(list);
    sbx_operation_free(operation);
    CHECK(sbx_volume_find_begin(runtime, "none", NULL, 0, &operation, &error) == 0);
    CHECK(ended(operation, &error) == SBX_ENOTFOUND && strstr(error.message, "\"none\"") != NULL);
    CHECK(sbx_volume_remove_begin(runtime, "data", NULL, 0, &operation, &error) == 0);
    CHECK(sbx_operation_wait(operation, 60000, &error) == 0);
    CHECK(sbx_operation_volumes(operation, &list, &error) == SBX_EINVALID);
    sbx_operation_free(operation);
    CHECK(sbx_volume_remove_begin(runtime, "data", NULL, 0, &operation, &error) == 0);
    CHECK(ended(operation, &error) == SBX_ENOTFOUND);
}

static void a_sandbox(sbx_runtime *runtime) {
    const char *command[] = {"sh", "-c", "echo hello >/v/file && cat /v/file"};
    sbx_error error = SBX_ERROR_INIT;
    sbx_operation *operation = NULL;
    sbx_config *config = NULL;
    sbx_sandbox *sandbox = NULL;
    sbx_exit end = SBX_EXIT_INIT;
    CHECK(sbx_config_new(&config, &error) == 0);
    CHECK(sbx_config_add_volume(config, "made", "/v", "a/b", SBX_VOLUME_CREATE_SUB_PATH) == 0);
    CHECK(sbx_create(runtime, config, &sandbox, &error) == SBX_ENOTFOUND && sandbox == NULL);
    CHECK(strstr(error.message, "\"made\"") != NULL);
    sbx_config_free(config);
    CHECK(sbx_config_new(&config, &error) == 0);
    CHECK(sbx_config_add_volume(config, "made", "/v", "a/b", SBX_VOLUME_CREATE | SBX_VOLUME_CREATE_SUB_PATH) == 0);
    CHECK(sbx_config_set_command(config, command, 3) == 0);
    CHECK(sbx_config_set_stream(config, SBX_STDOUT, SBX_STREAM_DESCRIPTOR) == 0);
    int code = sbx_create(runtime, config, &sandbox, &error);
    if (code != 0)
        printf("%s\n", error.message);
    CHECK(code == 0);
    CHECK(sbx_wait(sandbox, 60000, &end, &error) == 0 && end.code == 0);
    int out = sbx_sandbox_open_fd(sandbox, SBX_STDOUT, &error);
    char said[16] = "";
    struct pollfd ready = {.fd = out, .events = POLLIN};
    CHECK(poll(&ready, 1, 30000) == 1 && read(out, said, sizeof said - 1) == 6 && strcmp(said, "hello\n") == 0);
    CHECK(close(out) == 0);
    sbx_sandbox_free(sandbox);
    sbx_config_free(config);

    CHECK(sbx_config_new(&config, &error) == 0);
    CHECK(sbx_config_add_volume(config, "made", "/v", NULL, SBX_VOLUME_READ_ONLY) == 0);
    CHECK(sbx_create(runtime, config, &sandbox, &error) == 0);
    CHECK(sbx_volume_remove_begin(runtime, "made", NULL, 0, &operation, &error) == 0);
    CHECK(ended(operation, &error) == SBX_ESTATE);
    CHECK(sbx_terminate(sandbox, &error) == 0 && sbx_wait(sandbox, 60000, &end, &error) == 0);
    sbx_sandbox_free(sandbox);
    sbx_config_free(config);
    CHECK(sbx_volume_remove_begin(runtime, "made", NULL, 0, &operation, &error) == 0);
    CHECK(ended(operation, &error) == 0);
}

int main(void) {
    CHECK(mkdtemp(directory) != NULL);
    char path[64], command[128];
    snprintf(path, sizeof path, "%s/volumes", directory);
    sbx_error error = SBX_ERROR_INIT;
    sbx_runtime *runtime = NULL;
    sbx_queue *queue = NULL;
    CHECK(sbx_queue_new(1000, &queue, &error) == 0);
    if (getenv("SBX_RUNSC") == NULL) {
        /* A runtime looks for runsc; the default one doesn't, and nothing here touches its store. */
        wrong_arguments(NULL, queue);
    } else {
        sbx_runtime_config config = SBX_RUNTIME_CONFIG_INIT;
        config.volume_directory = path;
        config.volume_min_free_bytes = 1;
        CHECK(sbx_runtime_new(&config, &runtime, &error) == 0);
        wrong_arguments(runtime, queue);
        made_and_removed(runtime, queue);
        a_sandbox(runtime);
    }
    sbx_runtime_free(runtime);
    sbx_queue_free(queue);
    snprintf(command, sizeof command, "rm -rf %s", directory);
    CHECK(system(command) == 0);
    return 0;
}
