/* File operations from C: what is wrong is an error and never a crash; with SBX_RUNSC also in a sandbox. */
#define _GNU_SOURCE
#include "check.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

static void without_a_sandbox(void) {
    sbx_error error = SBX_ERROR_INIT;
    sbx_file_operation *operation = (sbx_file_operation *)&error, *const before = operation;
    sbx_file_info info = SBX_FILE_INFO_INIT;
    char path[4096];
    size_t length = 7;
    CHECK(sbx_file_read(NULL, "/a", NULL, &operation, &error) == SBX_EHANDLE);
    CHECK(sbx_file_write(NULL, "/a", NULL, 0, NULL, &error) == SBX_EHANDLE);
    CHECK(sbx_file_list(NULL, "/a", NULL, &operation, &error) == SBX_EHANDLE);
    CHECK(sbx_file_stat(NULL, "/a", NULL, &info, &error) == SBX_EHANDLE);
    CHECK(sbx_file_make_directory(NULL, "/a", NULL, &error) == SBX_EHANDLE);
    CHECK(sbx_file_remove(NULL, "/a", NULL, &error) == SBX_EHANDLE);
    CHECK(sbx_file_rename(NULL, "/a", "/b", NULL, &error) == SBX_EHANDLE);
    CHECK(sbx_file_download(NULL, "/a", 1, NULL, &error) == SBX_EHANDLE);
    CHECK(sbx_file_upload(NULL, "/a", 0, NULL, &error) == SBX_EHANDLE);
    CHECK(sbx_file_copy_out(NULL, "/a", 1, NULL, &error) == SBX_EHANDLE);
    CHECK(sbx_file_copy_in(NULL, "/a", 0, NULL, &error) == SBX_EHANDLE);
    CHECK(sbx_file_watch_begin(NULL, "/a", NULL, 1, &operation, &error) == SBX_EHANDLE);
    CHECK(sbx_file_read_begin(NULL, "/a", NULL, 1, &operation, &error) == SBX_EHANDLE);
    CHECK(operation == before);
    CHECK(sbx_file_operation_wait(NULL, 0, &error) == SBX_EHANDLE);
    CHECK(sbx_file_operation_has_ended(NULL) == SBX_EHANDLE);
    CHECK(sbx_file_operation_cancel(NULL, &error) == SBX_EHANDLE);
    CHECK(sbx_file_operation_open_fd(NULL, &error) == SBX_EHANDLE);
    CHECK(sbx_file_operation_bytes(NULL, &length) == NULL && length == 7);
    CHECK(sbx_file_operation_count(NULL) == SBX_EHANDLE);
    CHECK(sbx_file_operation_name(NULL, 0) == NULL && sbx_file_operation_target(NULL, 0) == NULL);
    CHECK(sbx_file_operation_info(NULL, 0, &info, &error) == SBX_EHANDLE);
    CHECK(sbx_file_operation_totals(NULL, NULL, NULL, NULL, &error) == SBX_EHANDLE);
    CHECK(sbx_file_operation_next_change(NULL, 0, path, sizeof path, &error) == SBX_EHANDLE);
    sbx_file_operation_free(NULL);
}

static void refused(sbx_sandbox *sandbox, const sbx_file_options *options, int code, const char *why) {
    sbx_error error = SBX_ERROR_INIT;
    CHECK(sbx_file_make_directory(sandbox, "/tmp/refused", options, &error) == code);
    CHECK(strstr(error.message, why) != NULL);
}

/* What is wrong with an argument is told at once, whatever the sandbox would say. */
static void arguments(sbx_sandbox *sandbox) {
    sbx_error error = SBX_ERROR_INIT;
    sbx_file_options options = SBX_FILE_OPTIONS_INIT;
    sbx_file_info info = SBX_FILE_INFO_INIT;
    sbx_file_operation *operation = NULL;
    char nothing[64] = {0};
    refused((sbx_sandbox *)(void *)nothing, NULL, SBX_EHANDLE, "not one of this copy");
    options.flags = 1u << 30;
    refused(sandbox, &options, SBX_EINVALID, "SBX_FILE_");
    options.flags = SBX_FILE_RECURSIVE;
    refused(sandbox, &options, SBX_EINVALID, "recursive");
    options.flags = 0;
    options.size = 5;
    refused(sandbox, &options, SBX_ESIZE, "sbx_file_options");
    options.size = 0;
    options.timeout_ms = -1;
    refused(sandbox, &options, SBX_EINVALID, "timeout_ms");
    options.timeout_ms = 1;
    CHECK(sbx_file_watch_begin(sandbox, "/tmp", &options, 0, &operation, &error) == SBX_EINVALID);
    CHECK(strstr(error.message, "timeout") != NULL && operation == NULL);
    options.timeout_ms = 0;
    /* Beyond the first layout, which is what size 0 stands for. */
    options.size = sizeof options;
    options.stall_timeout_ms = 1;
    CHECK(sbx_file_watch_begin(sandbox, "/tmp", &options, 0, &operation, &error) == SBX_EINVALID);
    CHECK(strstr(error.message, "stall_timeout") != NULL && operation == NULL);
    options.stall_timeout_ms = -1;
    CHECK(sbx_file_make_directory(sandbox, "/tmp/patient", &options, &error) == 0);
    options.stall_timeout_ms = 0;
    options.size = 0;
    options.mode = 010000;
    refused(sandbox, &options, SBX_EINVALID, "mode");
    options.mode = 0;
    options.user = "\xff";
    refused(sandbox, &options, SBX_EINVALID, "UTF-8");
    CHECK(sbx_file_stat(sandbox, NULL, NULL, &info, &error) == SBX_EINVALID);
    CHECK(sbx_file_stat(sandbox, "tmp", NULL, &info, &error) == SBX_EINVALID);
    CHECK(sbx_file_stat(sandbox, "/tmp", NULL, NULL, &error) == SBX_EINVALID);
    CHECK(sbx_file_write(sandbox, "/tmp/a", NULL, 1, NULL, &error) == SBX_EINVALID);
    CHECK(sbx_file_read(sandbox, "/tmp/a", NULL, NULL, &error) == SBX_EINVALID);
    CHECK(sbx_file_download(sandbox, "/tmp/a", -1, NULL, &error) == SBX_EINVALID);
    CHECK(sbx_file_upload(sandbox, "/tmp/a", 999, NULL, &error) == SBX_ESYSTEM && error.os_error == EBADF);
    info.size = 3;
    CHECK(sbx_file_stat(sandbox, "/tmp", NULL, &info, &error) == SBX_ESIZE);
}

static void contents(sbx_sandbox *sandbox) {
    sbx_error error = SBX_ERROR_INIT;
    sbx_file_options options = SBX_FILE_OPTIONS_INIT;
    sbx_file_info info = SBX_FILE_INFO_INIT;
    sbx_file_operation *operation = NULL;
    size_t length = 0;
    options.mode = 0640;
    options.flags = SBX_FILE_PARENTS;
    /* A name that isn't UTF-8 is given and comes back as it is. */
    CHECK(sbx_file_write(sandbox, "/tmp/d/\xff\n", (const uint8_t *)"12345", 5, &options, &error) == 0);
    CHECK(sbx_file_list(sandbox, "/tmp/d", NULL, &operation, &error) == 0);
    CHECK(sbx_file_operation_count(operation) == 1);
    CHECK(strcmp(sbx_file_operation_name(operation, 0), "\xff\n") == 0);
    CHECK(sbx_file_operation_target(operation, 0) == NULL && sbx_file_operation_name(operation, 1) == NULL);
    CHECK(sbx_file_operation_info(operation, 0, &info, &error) == 0);
    CHECK(info.kind == SBX_FILE_KIND_FILE && info.mode == 0640 && info.bytes == 5 && info.modified_ns > 0);
    CHECK(sbx_file_operation_info(operation, 1, &info, &error) == SBX_ENOTFOUND);
    CHECK(sbx_file_operation_open_fd(operation, &error) == SBX_ESTATE);
    sbx_file_operation_free(operation);
    sbx_file_operation_free(operation);
    CHECK(sbx_file_operation_wait(operation, 0, &error) == SBX_EHANDLE);
    CHECK(sbx_file_read(sandbox, "/tmp/d/\xff\n", NULL, &operation, &error) == 0);
    const uint8_t *bytes = sbx_file_operation_bytes(operation, &length);
    CHECK(bytes != NULL && length == 5 && memcmp(bytes, "12345", 5) == 0);
    sbx_file_operation_free(operation);
    CHECK(sbx_file_stat(sandbox, "/tmp/none", NULL, &info, &error) == SBX_ENOTFOUND && error.os_error == ENOENT);
    CHECK(sbx_file_rename(sandbox, "/tmp/d", "/tmp/e", NULL, &error) == 0);
    sbx_file_options all = SBX_FILE_OPTIONS_INIT;
    all.flags = SBX_FILE_RECURSIVE;
    CHECK(sbx_file_remove(sandbox, "/tmp/e", &all, &error) == 0);
}

/* One event loop for whatever ends: the queue's descriptor, and cookies. */
static void events(sbx_sandbox *sandbox, sbx_queue *queue) {
    sbx_error error = SBX_ERROR_INIT;
    sbx_file_operation *written = NULL, *missing = NULL;
    sbx_event event = SBX_EVENT_INIT;
    int doorbell = sbx_queue_open_fd(queue, &error), seen = 0;
    CHECK(doorbell >= 0);
    CHECK(sbx_file_upload_begin(sandbox, "/tmp/up", NULL, 71, &written, &error) == 0);
    CHECK(sbx_file_stat_begin(sandbox, "/tmp/none", NULL, 72, &missing, &error) == 0);
    int stream = sbx_file_operation_open_fd(written, &error);
    CHECK(stream >= 0 && (fcntl(stream, F_GETFL) & O_NONBLOCK) != 0 && (fcntl(stream, F_GETFD) & FD_CLOEXEC) != 0);
    CHECK(send(stream, "through", 7, MSG_NOSIGNAL) == 7);
    close(stream);
    while (seen != 3) {
        struct pollfd ready = {.fd = doorbell, .events = POLLIN};
        char rung[64];
        CHECK(poll(&ready, 1, 30000) == 1 && read(doorbell, rung, sizeof rung) > 0);
        while (sbx_queue_next(queue, &event, &error) == 1) {
            CHECK(event.kind != SBX_EVENT_FILE_DONE || event.cookie == 71 || event.cookie == 72);
            if (event.kind != SBX_EVENT_FILE_DONE)
                continue;
            CHECK(event.code == (event.cookie == 71 ? 0 : SBX_ENOTFOUND));
            seen |= event.cookie == 71 ? 1 : 2;
        }
    }
    uint64_t bytes = 0;
    CHECK(sbx_file_operation_totals(written, &bytes, NULL, NULL, &error) == 0 && bytes == 7);
    CHECK(sbx_file_operation_wait(missing, 0, &error) == SBX_ENOTFOUND && error.os_error == ENOENT);
    CHECK(sbx_file_operation_count(missing) == SBX_ENOTFOUND);
    sbx_file_operation_free(written);
    sbx_file_operation_free(missing);
    close(doorbell);
}

static void changes(sbx_sandbox *sandbox) {
    sbx_error error = SBX_ERROR_INIT;
    sbx_file_operation *watch = NULL;
    char path[4096];
    CHECK(sbx_file_watch_begin(sandbox, "/tmp", NULL, 0, &watch, &error) == 0);
    CHECK(sbx_file_operation_next_change(watch, 30000, path, 10, &error) == SBX_EINVALID);
    CHECK(sbx_file_operation_next_change(watch, 30000, path, sizeof path, &error) == SBX_CHANGE_READY);
    CHECK(path[0] == '\0');
    CHECK(sbx_file_make_directory(sandbox, "/tmp/new", NULL, &error) == 0);
    CHECK(sbx_file_operation_next_change(watch, 30000, path, sizeof path, &error) == SBX_CHANGE_CREATED);
    CHECK(strcmp(path, "new") == 0);
    CHECK(sbx_file_operation_cancel(watch, &error) == 0);
    CHECK(sbx_file_operation_wait(watch, 30000, &error) == SBX_ECLOSED);
    sbx_file_operation_free(watch);
}

int main(void) {
    without_a_sandbox();
    if (getenv("SBX_RUNSC") == NULL)
        return 0;
    sbx_error error = SBX_ERROR_INIT;
    sbx_config *config = NULL;
    CHECK(sbx_config_new(&config, NULL) == 0);
    sbx_queue *queue = NULL;
    sbx_sandbox *sandbox = NULL;
    CHECK(sbx_queue_new(16, &queue, &error) == 0 && sbx_config_set_queue(config, queue, 1) == 0);
    CHECK(sbx_create(NULL, config, &sandbox, &error) == 0);
    sbx_config_free(config);
    arguments(sandbox);
    contents(sandbox);
    events(sandbox, queue);
    changes(sandbox);
    CHECK(sbx_terminate(sandbox, &error) == 0 && sbx_wait(sandbox, 30000, NULL, &error) == 0);
    CHECK(sbx_file_make_directory(sandbox, "/tmp/late", NULL, &error) == SBX_ESTATE);
    sbx_sandbox_free(sandbox);
    sbx_queue_free(queue);
    return 0;
}
