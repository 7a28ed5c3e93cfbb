/* File operations from C: what is wrong is an error and never a crash; with SBX_RUNSC also in a sandbox. */
#define _GNU_SOURCE
#include "check.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

/* A call that waits: begin, wait, free. */
static int finish(int code, sbx_operation **operation, sbx_error *error) {
    if (code == 0) {
        code = sbx_operation_wait(*operation, -1, error);
        sbx_operation_free(*operation);
        *operation = NULL;
    }
    return code;
}

static int make(sbx_sandbox *sandbox, const char *path, const sbx_file_options *options, sbx_error *error) {
    sbx_operation *operation = NULL;
    return finish(sbx_file_make_directory_begin(sandbox, path, options, NULL, 0, &operation, error), &operation, error);
}

static int look_at(sbx_sandbox *sandbox, const char *path, sbx_error *error) {
    sbx_operation *operation = NULL;
    return finish(sbx_file_stat_begin(sandbox, path, NULL, NULL, 0, &operation, error), &operation, error);
}

static void without_a_sandbox(void) {
    sbx_error error = SBX_ERROR_INIT;
    sbx_operation *operation = (sbx_operation *)&error, *const before = operation;
    sbx_file_entry entry = SBX_FILE_ENTRY_INIT;
    sbx_file_totals totals = SBX_FILE_TOTALS_INIT;
    char path[4096];
    size_t length = 7;
    CHECK(sbx_file_read_begin(NULL, "/a", NULL, NULL, 0, &operation, &error) == SBX_EHANDLE);
    CHECK(sbx_file_write_begin(NULL, "/a", NULL, 0, NULL, NULL, 0, &operation, &error) == SBX_EHANDLE);
    CHECK(sbx_file_list_begin(NULL, "/a", NULL, NULL, 0, &operation, &error) == SBX_EHANDLE);
    CHECK(sbx_file_stat_begin(NULL, "/a", NULL, NULL, 0, &operation, &error) == SBX_EHANDLE);
    CHECK(sbx_file_make_directory_begin(NULL, "/a", NULL, NULL, 0, &operation, &error) == SBX_EHANDLE);
    CHECK(sbx_file_remove_begin(NULL, "/a", NULL, NULL, 0, &operation, &error) == SBX_EHANDLE);
    CHECK(sbx_file_rename_begin(NULL, "/a", "/b", NULL, NULL, 0, &operation, &error) == SBX_EHANDLE);
    CHECK(sbx_file_download_begin(NULL, "/a", NULL, NULL, 0, &operation, &error) == SBX_EHANDLE);
    CHECK(sbx_file_upload_begin(NULL, "/a", NULL, NULL, 0, &operation, &error) == SBX_EHANDLE);
    CHECK(sbx_file_copy_out_begin(NULL, "/a", NULL, NULL, 0, &operation, &error) == SBX_EHANDLE);
    CHECK(sbx_file_copy_in_begin(NULL, "/a", NULL, NULL, 0, &operation, &error) == SBX_EHANDLE);
    CHECK(sbx_file_watch_begin(NULL, "/a", NULL, NULL, 0, &operation, &error) == SBX_EHANDLE);
    CHECK(operation == before);
    CHECK(sbx_operation_wait(NULL, 0, &error) == SBX_EHANDLE);
    CHECK(sbx_operation_cancel(NULL, &error) == SBX_EHANDLE);
    CHECK(sbx_operation_open_fd(NULL, &error) == SBX_EHANDLE);
    CHECK(sbx_operation_bytes(NULL, &length) == NULL && length == 7);
    CHECK(sbx_operation_count(NULL) == SBX_EHANDLE);
    CHECK(sbx_operation_entry(NULL, 0, &entry, &error) == SBX_EHANDLE);
    CHECK(sbx_operation_totals(NULL, &totals, &error) == SBX_EHANDLE);
    CHECK(sbx_operation_next_change(NULL, 0, path, sizeof path, &error) == SBX_EHANDLE);
    sbx_operation_free(NULL);
}

static void refused(sbx_sandbox *sandbox, const sbx_file_options *options, int code, const char *why) {
    sbx_error error = SBX_ERROR_INIT;
    CHECK(make(sandbox, "/tmp/refused", options, &error) == code);
    CHECK(strstr(error.message, why) != NULL);
}

/* What is wrong with an argument is told at once, whatever the sandbox would say. */
static void arguments(sbx_sandbox *sandbox) {
    sbx_error error = SBX_ERROR_INIT;
    sbx_file_options options = SBX_FILE_OPTIONS_INIT;
    sbx_operation *operation = NULL;
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
    options.time_limit_ms = 1;
    CHECK(sbx_file_watch_begin(sandbox, "/tmp", &options, NULL, 0, &operation, &error) == SBX_EINVALID);
    CHECK(strstr(error.message, "time_limit") != NULL && operation == NULL);
    options.time_limit_ms = 0;
    options.progress_timeout_ms = 1;
    CHECK(sbx_file_watch_begin(sandbox, "/tmp", &options, NULL, 0, &operation, &error) == SBX_EINVALID);
    CHECK(strstr(error.message, "progress_timeout") != NULL && operation == NULL);
    /* Negative is no limit, of both. */
    options.progress_timeout_ms = -1;
    options.time_limit_ms = -1;
    CHECK(make(sandbox, "/tmp/patient", &options, &error) == 0);
    options.progress_timeout_ms = 0;
    options.time_limit_ms = 0;
    options.mode = 010000;
    refused(sandbox, &options, SBX_EINVALID, "mode");
    options.mode = 0;
    options.user = "\xff";
    refused(sandbox, &options, SBX_EINVALID, "UTF-8");
    CHECK(look_at(sandbox, NULL, &error) == SBX_EINVALID);
    CHECK(look_at(sandbox, "tmp", &error) == SBX_EINVALID);
    CHECK(sbx_file_write_begin(sandbox, "/tmp/a", NULL, 1, NULL, NULL, 0, &operation, &error) == SBX_EINVALID);
    CHECK(sbx_file_read_begin(sandbox, "/tmp/a", NULL, NULL, 0, NULL, &error) == SBX_EINVALID);
    CHECK(sbx_file_read_begin(sandbox, "/tmp/a", NULL, (sbx_queue *)sandbox, 0, &operation, &error) == SBX_EHANDLE);
    CHECK(operation == NULL);
}

static void contents(sbx_sandbox *sandbox) {
    sbx_error error = SBX_ERROR_INIT;
    sbx_file_options options = SBX_FILE_OPTIONS_INIT;
    sbx_file_entry entry = SBX_FILE_ENTRY_INIT;
    sbx_file_totals totals = SBX_FILE_TOTALS_INIT;
    sbx_operation *operation = NULL;
    size_t length = 0;
    const char *path = "/tmp/d/\xff\n"; /* A name that isn't UTF-8 is given and comes back as it is. */
    options.mode = 0640;
    options.flags = SBX_FILE_PARENTS;
    CHECK(finish(sbx_file_write_begin(sandbox, path, (const uint8_t *)"12345", 5, &options, NULL, 0, &operation, &error),
                 &operation, &error) == 0);
    CHECK(sbx_file_list_begin(sandbox, "/tmp/d", NULL, NULL, 0, &operation, &error) == 0);
    CHECK(sbx_operation_wait(operation, -1, &error) == 0);
    CHECK(sbx_operation_count(operation) == 1);
    CHECK(sbx_operation_entry(operation, 0, &entry, &error) == 0);
    CHECK(strcmp(entry.name, "\xff\n") == 0 && entry.target == NULL && entry.size == sizeof entry);
    CHECK(entry.kind == SBX_FILE_KIND_FILE && entry.mode == 0640 && entry.bytes == 5 && entry.modified_ns > 0);
    CHECK(sbx_operation_entry(operation, 1, &entry, &error) == SBX_ENOTFOUND);
    CHECK(sbx_operation_entry(operation, 0, NULL, &error) == SBX_EINVALID);
    entry.size = 3;
    CHECK(sbx_operation_entry(operation, 0, &entry, &error) == SBX_ESIZE);
    CHECK(sbx_operation_open_fd(operation, &error) == SBX_ESTATE);
    CHECK(sbx_operation_cancel(operation, &error) == 0 && sbx_operation_wait(operation, 0, &error) == 0);
    sbx_operation_free(operation);
    sbx_operation_free(operation);
    CHECK(sbx_operation_wait(operation, 0, &error) == SBX_EHANDLE);
    CHECK(sbx_file_read_begin(sandbox, path, NULL, NULL, 0, &operation, &error) == 0);
    CHECK(sbx_operation_wait(operation, -1, &error) == 0);
    const uint8_t *bytes = sbx_operation_bytes(operation, &length);
    CHECK(bytes != NULL && length == 5 && memcmp(bytes, "12345", 5) == 0);
    CHECK(sbx_operation_totals(operation, &totals, &error) == 0 && totals.bytes == 5 && totals.skipped == 0);
    sbx_operation_free(operation);
    /* An empty file has bytes, too: an address that can be held, and no length. */
    CHECK(finish(sbx_file_write_begin(sandbox, "/tmp/empty", NULL, 0, NULL, NULL, 0, &operation, &error), &operation,
                 &error) == 0);
    CHECK(sbx_file_read_begin(sandbox, "/tmp/empty", NULL, NULL, 0, &operation, &error) == 0);
    CHECK(sbx_operation_wait(operation, -1, &error) == 0);
    CHECK((uintptr_t)sbx_operation_bytes(operation, &length) > 4096 && length == 0);
    sbx_operation_free(operation);
    CHECK(look_at(sandbox, "/tmp/none", &error) == SBX_ENOTFOUND && error.os_error == ENOENT);
    CHECK(finish(sbx_file_rename_begin(sandbox, "/tmp/d", "/tmp/e", NULL, NULL, 0, &operation, &error), &operation,
                 &error) == 0);
    sbx_file_options all = SBX_FILE_OPTIONS_INIT;
    all.flags = SBX_FILE_RECURSIVE;
    CHECK(finish(sbx_file_remove_begin(sandbox, "/tmp/e", &all, NULL, 0, &operation, &error), &operation, &error) == 0);
}

/* One event loop for whatever ends: the queue's descriptor, and cookies. */
static void events(sbx_sandbox *sandbox, sbx_queue *queue) {
    sbx_error error = SBX_ERROR_INIT;
    sbx_operation *written = NULL, *missing = NULL;
    sbx_file_totals totals = SBX_FILE_TOTALS_INIT;
    sbx_event event = SBX_EVENT_INIT;
    int doorbell = sbx_queue_open_fd(queue, &error), seen = 0;
    CHECK(doorbell >= 0);
    CHECK(sbx_file_upload_begin(sandbox, "/tmp/up", NULL, queue, 71, &written, &error) == 0);
    CHECK(sbx_file_stat_begin(sandbox, "/tmp/none", NULL, queue, 72, &missing, &error) == 0);
    CHECK(sbx_operation_wait(written, 0, &error) == SBX_ETIMEDOUT && sbx_operation_count(written) == SBX_ESTATE);
    CHECK(sbx_operation_totals(written, &totals, &error) == SBX_ESTATE);
    int stream = sbx_operation_open_fd(written, &error);
    CHECK(stream >= 0 && (fcntl(stream, F_GETFL) & O_NONBLOCK) != 0 && (fcntl(stream, F_GETFD) & FD_CLOEXEC) != 0);
    CHECK(send(stream, "through", 7, MSG_NOSIGNAL) == 7);
    close(stream);
    while (seen != 3) {
        struct pollfd ready = {.fd = doorbell, .events = POLLIN};
        char rung[64];
        CHECK(poll(&ready, 1, 30000) == 1 && read(doorbell, rung, sizeof rung) > 0);
        while (sbx_queue_next(queue, &event, &error) == 1) {
            CHECK(event.kind != SBX_EVENT_OPERATION_DONE || event.cookie == 71 || event.cookie == 72);
            if (event.kind != SBX_EVENT_OPERATION_DONE)
                continue;
            CHECK(event.code == (event.cookie == 71 ? 0 : SBX_ENOTFOUND));
            CHECK(event.value[0] == (event.cookie == 71 ? 7u : 0u) && event.value[1] == event.value[0]);
            seen |= event.cookie == 71 ? 1 : 2;
        }
    }
    CHECK(sbx_operation_totals(written, &totals, &error) == 0 && totals.bytes == 7);
    CHECK(sbx_operation_wait(missing, 0, &error) == SBX_ENOTFOUND && error.os_error == ENOENT);
    CHECK(sbx_operation_count(missing) == 0);
    sbx_operation_free(written);
    sbx_operation_free(missing);
    close(doorbell);
}

static void changes(sbx_sandbox *sandbox) {
    sbx_error error = SBX_ERROR_INIT;
    sbx_operation *watch = NULL;
    char path[4096];
    CHECK(sbx_file_watch_begin(sandbox, "/tmp", NULL, NULL, 0, &watch, &error) == 0);
    CHECK(sbx_operation_next_change(watch, 30000, path, 10, &error) == SBX_EINVALID);
    CHECK(sbx_operation_next_change(watch, 30000, path, sizeof path, &error) == SBX_CHANGE_READY);
    CHECK(path[0] == '\0');
    CHECK(make(sandbox, "/tmp/new", NULL, &error) == 0);
    CHECK(sbx_operation_next_change(watch, 30000, path, sizeof path, &error) == SBX_CHANGE_CREATED);
    CHECK(strcmp(path, "new") == 0);
    CHECK(sbx_operation_cancel(watch, &error) == 0);
    CHECK(sbx_operation_wait(watch, 30000, &error) == SBX_ECLOSED);
    sbx_operation_free(watch);
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
    CHECK(make(sandbox, "/tmp/late", NULL, &error) == SBX_ESTATE);
    sbx_sandbox_free(sandbox);
    sbx_queue_free(queue);
    return 0;
}
