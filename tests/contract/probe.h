/* Looks at other processes by /proc. */
#ifndef PROBE_H
#define PROBE_H
#include "self.h"

/* A field of a process's status as a hexadecimal number. */
__attribute__((unused)) static unsigned long long status_of(const char *process, const char *field) {
    char path[400], line[256], format[32];
    unsigned long long value = 0;
    bool found = false;
    snprintf(path, sizeof path, "/proc/%s/status", process);
    snprintf(format, sizeof format, "%s:\t%%llx", field);
    FILE *status = fopen(path, "re");
    CHECK(status != NULL);
    while (fgets(line, sizeof line, status) != NULL && !found)
        found = sscanf(line, format, &value) == 1;
    fclose(status);
    CHECK(found);
    return value;
}

__attribute__((unused)) static void name_of(const char *process, char name[32]) {
    char path[400];
    snprintf(path, sizeof path, "/proc/%s/comm", process);
    FILE *file = fopen(path, "re");
    name[0] = 0;
    if (file != NULL) {
        if (fgets(name, 32, file) == NULL)
            name[0] = 0;
        name[strcspn(name, "\n")] = 0;
        fclose(file);
    }
}

/* The parent of a process, 0 if it is gone or dead. */
__attribute__((unused)) static int parent_of(int pid) {
    char path[64], text[512], state = 0;
    int parent = 0;
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return 0;
    size_t length = fread(text, 1, sizeof text - 1, file);
    fclose(file);
    text[length] = 0;
    char *after = strrchr(text, ')');
    if (after == NULL || sscanf(after, ") %c %d", &state, &parent) != 2 || state == 'Z')
        return 0;
    return parent;
}

/* Every living process below this one: their number. */
__attribute__((unused)) static int below(int *pids, int room) {
    int count = 0;
    for (int from = -1; from < count; from++) {
        int parent = from < 0 ? getpid() : pids[from];
        DIR *proc = opendir("/proc");
        CHECK(proc != NULL);
        for (struct dirent *entry; (entry = readdir(proc)) != NULL;) {
            int pid = atoi(entry->d_name);
            if (pid > 0 && parent_of(pid) == parent) {
                CHECK(count < room);
                pids[count++] = pid;
            }
        }
        closedir(proc);
    }
    return count;
}

/* Every signal but those that can't be blocked and libc's own two. */
#define ALL_SIGNALS 0xfffffffe7ffbfeffULL

/* A sandbox with both kinds of tunnel, whose server answers. */
__attribute__((unused)) static sbx_sandbox *server(int *plain, int *encrypted) {
    const char *argv[] = {"python3", "-u", "-c",
                          "import socket\n"
                          "s = socket.create_server(('0.0.0.0', 8000), backlog=64)\n"
                          "import threading\n"
                          "def serve(c):\n"
                          "    try:\n"
                          "        while c.send(b'x' * 65536): pass\n"
                          "    except OSError: pass\n"
                          "while True:\n"
                          "    threading.Thread(target=serve, args=(s.accept()[0],), daemon=True).start()\n"};
    sbx_config *config = NULL;
    CHECK(sbx_config_new(&config, NULL) == 0);
    sbx_sandbox *sandbox = NULL;
    sbx_tunnel_map *tunnels = NULL;
    sbx_config_set_command(config, argv, 4);
    sbx_config_add_port(config, 8000, SBX_PORT_UNENCRYPTED);
    sbx_config_add_port(config, 8001, SBX_PORT_ENCRYPTED);
    sbx_config_set_tcp_probe(config, 8000, 20);
    OK(sbx_create(NULL, config, &sandbox, &error));
    OK(sbx_tunnels(sandbox, PATIENCE, &tunnels, &error));
    OK(sbx_wait_ready(sandbox, PATIENCE, &error));
    sbx_config_free(config);
    sbx_tunnel first = SBX_TUNNEL_INIT, second = SBX_TUNNEL_INIT;
    CHECK(sbx_tunnel_map_count(tunnels) == 2 && sbx_tunnel_map_tunnel(tunnels, 0, &first) == 0);
    CHECK(first.kind == SBX_PORT_UNENCRYPTED && first.container_port == 8000 && strcmp(first.host, "127.0.0.1") == 0);
    CHECK(first.url == NULL && first.ca_pem == NULL && first.spki_sha256 == NULL);
    CHECK(sbx_tunnel_map_tunnel(tunnels, 1, &second) == 0 && sbx_tunnel_map_tunnel(tunnels, 2, &first) == SBX_ENOTFOUND);
    CHECK(second.kind == SBX_PORT_ENCRYPTED && second.container_port == 8001 && second.port != first.port);
    CHECK(strcmp(second.url, sbx_tunnel_map_url(tunnels, 8001)) == 0);
    CHECK(strcmp(second.ca_pem, sbx_tunnel_map_ca_pem(tunnels, 8001)) == 0);
    CHECK(strncmp(second.spki_sha256, "sha256//", 8) == 0);
    if (plain != NULL)
        *plain = port_of(tunnels, 8000);
    if (encrypted != NULL)
        *encrypted = port_of(tunnels, 8001);
    sbx_tunnel_map_free(tunnels);
    return sandbox;
}
#endif
