/* Every synchronous call of ZooKeeper's C client, and its watches. One line per step. */

#define THREADED
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <zookeeper/zookeeper.h>

#define PATIENCE_S 20

static int failures = 0;
static const char *step_name = "";
static int step_failed = 0;

static void begin(const char *name) {
  step_name = name;
  step_failed = 0;
}

static void end(void) {
  if (step_failed) {
    failures++;
  } else {
    printf("OK %s\n", step_name);
  }
  fflush(stdout);
}

static void expect(long actual, long expected, const char *what) {
  if (actual != expected && !step_failed) {
    step_failed = 1;
    printf("FAIL %s: %s: expected %ld, got %ld\n", step_name, what, expected, actual);
  }
}

static void expect_text(const char *actual, const char *expected, const char *what) {
  if (strcmp(actual, expected) != 0 && !step_failed) {
    step_failed = 1;
    printf("FAIL %s: %s: expected %s, got %s\n", step_name, what, expected, actual);
  }
}

/* What watchers heard, in order. */
#define HEARD_MAX 64
static struct {
  int type, state;
  char path[256];
} heard[HEARD_MAX];
static int heard_count = 0, heard_read = 0;
static int connected = 0;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;

static void watcher(zhandle_t *zh, int type, int state, const char *path, void *context) {
  (void)zh;
  (void)context;
  pthread_mutex_lock(&lock);
  if (type == ZOO_SESSION_EVENT) {
    connected = state == ZOO_CONNECTED_STATE;
  } else if (heard_count < HEARD_MAX) {
    heard[heard_count].type = type;
    heard[heard_count].state = state;
    snprintf(heard[heard_count].path, sizeof(heard[0].path), "%s", path);
    heard_count++;
  }
  pthread_cond_broadcast(&changed);
  pthread_mutex_unlock(&lock);
}

static void deadline(struct timespec *when) {
  clock_gettime(CLOCK_REALTIME, when);
  when->tv_sec += PATIENCE_S;
}

static void expect_event(int type, const char *path) {
  struct timespec until;
  deadline(&until);
  pthread_mutex_lock(&lock);
  while (heard_read == heard_count &&
         pthread_cond_timedwait(&changed, &lock, &until) == 0) {
  }
  if (heard_read == heard_count) {
    expect(0, 1, "an event in time");
  } else {
    expect(heard[heard_read].type, type, "event's type");
    expect(heard[heard_read].state, ZOO_CONNECTED_STATE, "event's state");
    expect_text(heard[heard_read].path, path, "event's path");
    heard_read++;
  }
  pthread_mutex_unlock(&lock);
}

static void expect_no_event(void) {
  pthread_mutex_lock(&lock);
  expect(heard_count - heard_read, 0, "events left");
  pthread_mutex_unlock(&lock);
}

static zhandle_t *open_client(const char *hosts, const clientid_t *id) {
  struct timespec until;
  connected = 0;
  zhandle_t *zh = zookeeper_init(hosts, watcher, 15000, id, NULL, 0);
  deadline(&until);
  pthread_mutex_lock(&lock);
  while (!connected && pthread_cond_timedwait(&changed, &lock, &until) == 0) {
  }
  expect(connected, 1, "connected");
  pthread_mutex_unlock(&lock);
  return zh;
}

static volatile int auth_result = 1;

static void auth_done(int rc, const void *data) {
  (void)data;
  auth_result = rc;
}

static void add_auth(zhandle_t *zh, const char *scheme, const char *credential) {
  auth_result = 1;
  expect(zoo_add_auth(zh, scheme, credential, (int)strlen(credential), auth_done, NULL), ZOK,
         "zoo_add_auth");
  for (int i = 0; i < PATIENCE_S * 100 && auth_result == 1; i++) {
    usleep(10000);
  }
  expect(auth_result, ZOK, "auth");
}

int main(int argc, char **argv) {
  if (argc != 2) {
    fprintf(stderr, "usage: c_client host:port\n");
    return 2;
  }
  const char *hosts = argv[1];
  struct Stat stat;
  char buffer[4096], path[256], expected[512];
  char root[64], a[128], b[128];
  int length;
  zoo_set_debug_level(0);
  snprintf(root, sizeof(root), "/c-%lx", (long)time(NULL));
  snprintf(a, sizeof(a), "%s/a", root);
  snprintf(b, sizeof(b), "%s/b", root);

  begin("a process takes over the session of one that died");
  int ends[2];
  clientid_t id;
  char orphan[128];
  snprintf(orphan, sizeof(orphan), "%s-orphan", root);
  expect(pipe(ends), 0, "pipe");
  if (fork() == 0) {
    zhandle_t *first = open_client(hosts, NULL);
    zoo_create(first, orphan, "", 0, &ZOO_OPEN_ACL_UNSAFE, ZOO_EPHEMERAL, path, sizeof(path));
    id = *zoo_client_id(first);
    _exit(write(ends[1], &id, sizeof(id)) == sizeof(id) ? 0 : 1);
  }
  expect(read(ends[0], &id, sizeof(id)), sizeof(id), "the session's id and password");
  wait(NULL);
  zhandle_t *heir = open_client(hosts, &id);
  expect(zoo_client_id(heir)->client_id == id.client_id, 1, "the same id");
  expect(zoo_exists(heir, orphan, 0, &stat), ZOK, "the ephemeral is there");
  expect(stat.ephemeralOwner == id.client_id, 1, "and ours");
  expect(zookeeper_close(heir), ZOK, "close");
  end();

  begin("connect");
  zhandle_t *zh = open_client(hosts, NULL);
  expect(zoo_state(zh), ZOO_CONNECTED_STATE, "state");
  expect(zoo_recv_timeout(zh), 15000, "negotiated timeout");
  end();

  begin("create, exists, get, set, delete");
  expect(zoo_create(zh, root, "x", 1, &ZOO_OPEN_ACL_UNSAFE, 0, path, sizeof(path)), ZOK, "create");
  expect_text(path, root, "path");
  expect(zoo_create(zh, root, "x", 1, &ZOO_OPEN_ACL_UNSAFE, 0, path, sizeof(path)), ZNODEEXISTS,
         "create again");
  expect(zoo_exists(zh, root, 0, &stat), ZOK, "exists");
  expect(stat.version, 0, "version");
  expect(zoo_exists(zh, a, 0, &stat), ZNONODE, "exists of a missing znode");
  length = sizeof(buffer);
  expect(zoo_get(zh, root, 0, buffer, &length, &stat), ZOK, "get");
  expect(length, 1, "length");
  expect(zoo_set(zh, root, "hello", 5, 0), ZOK, "set");
  expect(zoo_set(zh, root, "hello", 5, 0), ZBADVERSION, "set with an old version");
  expect(zoo_set2(zh, root, "again", 5, 1, &stat), ZOK, "set2");
  expect(stat.version, 2, "version after set2");
  expect(zoo_create(zh, a, NULL, -1, &ZOO_OPEN_ACL_UNSAFE, 0, path, sizeof(path)), ZOK,
         "create with null data");
  length = sizeof(buffer);
  expect(zoo_get(zh, a, 0, buffer, &length, &stat), ZOK, "get of null data");
  expect(length, -1, "length of null data");
  expect(zoo_delete(zh, root, -1), ZNOTEMPTY, "delete of a parent");
  expect(zoo_delete(zh, a, 7), ZBADVERSION, "delete with a wrong version");
  expect(zoo_delete(zh, a, 0), ZOK, "delete");
  expect(zoo_delete(zh, a, 0), ZNONODE, "delete again");
  end();

  begin("create2, sequential, ephemeral, container, TTL");
  expect(zoo_create2(zh, a, "abc", 3, &ZOO_OPEN_ACL_UNSAFE, 0, path, sizeof(path), &stat), ZOK,
         "create2");
  expect(stat.dataLength, 3, "dataLength");
  snprintf(buffer, sizeof(buffer), "%s/s-", a);
  for (int i = 0; i < 3; i++) {
    expect(zoo_create(zh, buffer, "", 0, &ZOO_OPEN_ACL_UNSAFE, ZOO_PERSISTENT_SEQUENTIAL, path,
                      sizeof(path)), ZOK, "sequential");
    snprintf(expected, sizeof(expected), "%s/s-%010d", a, i);
    expect_text(path, expected, "sequential name");
  }
  snprintf(buffer, sizeof(buffer), "%s/e-", a);
  expect(zoo_create2(zh, buffer, "", 0, &ZOO_OPEN_ACL_UNSAFE, ZOO_EPHEMERAL_SEQUENTIAL, path,
                     sizeof(path), &stat), ZOK, "ephemeral");
  expect(stat.ephemeralOwner == zoo_client_id(zh)->client_id, 1, "its owner");
  snprintf(buffer, sizeof(buffer), "%s/kid", path);
  expect(zoo_create(zh, buffer, "", 0, &ZOO_OPEN_ACL_UNSAFE, 0, path, sizeof(path)),
         ZNOCHILDRENFOREPHEMERALS, "child of an ephemeral");
  snprintf(buffer, sizeof(buffer), "%s/container", a);
  expect(zoo_create(zh, buffer, "", 0, &ZOO_OPEN_ACL_UNSAFE, ZOO_CONTAINER, path, sizeof(path)),
         ZOK, "container");
  snprintf(buffer, sizeof(buffer), "%s/ttl", a);
  expect(zoo_create2_ttl(zh, buffer, "", 0, &ZOO_OPEN_ACL_UNSAFE, ZOO_PERSISTENT_WITH_TTL, 60000,
                         path, sizeof(path), &stat), ZOK, "TTL");
  expect(stat.ephemeralOwner, 0, "a TTL znode's owner");
  end();

  begin("children");
  struct String_vector names;
  expect(zoo_get_children(zh, a, 0, &names), ZOK, "get_children");
  expect(names.count, 6, "count");
  deallocate_String_vector(&names);
  expect(zoo_get_children2(zh, a, 0, &names, &stat), ZOK, "get_children2");
  expect(stat.numChildren, 6, "numChildren");
  deallocate_String_vector(&names);
  expect(zoo_get_children(zh, "/nope", 0, &names), ZNONODE, "of a missing znode");
  end();

  begin("ACLs and auth");
  struct ACL_vector acl;
  expect(zoo_get_acl(zh, a, &acl, &stat), ZOK, "get_acl");
  expect(acl.count, 1, "entries");
  expect_text(acl.data[0].id.scheme, "world", "scheme");
  deallocate_ACL_vector(&acl);
  expect(zoo_create(zh, b, "", 0, &ZOO_CREATOR_ALL_ACL, 0, path, sizeof(path)), ZINVALIDACL,
         "auth without an identity");
  add_auth(zh, "digest", "u:p");
  expect(zoo_create(zh, b, "", 0, &ZOO_CREATOR_ALL_ACL, 0, path, sizeof(path)), ZOK,
         "auth with one");
  expect(zoo_get_acl(zh, b, &acl, &stat), ZOK, "get_acl");
  expect_text(acl.data[0].id.id, "u:Jq7wMyA/w2Vd5WIDAKdu4OIIFEQ=", "expanded id");
  deallocate_ACL_vector(&acl);
  expect(zoo_set_acl(zh, b, 5, &ZOO_OPEN_ACL_UNSAFE), ZBADVERSION, "set_acl, wrong version");
  expect(zoo_set_acl(zh, b, 0, &ZOO_READ_ACL_UNSAFE), ZOK, "set_acl");
  expect(zoo_set(zh, b, "x", 1, -1), ZNOAUTH, "set without permission");
  end();

  begin("watches by argument");
  const char *w = a;
  expect(zoo_exists(zh, w, 1, &stat), ZOK, "exists");
  expect(zoo_set(zh, w, "1", 1, -1), ZOK, "set");
  expect_event(ZOO_CHANGED_EVENT, w);
  length = sizeof(buffer);
  expect(zoo_get(zh, w, 1, buffer, &length, &stat), ZOK, "get");
  expect(zoo_set(zh, w, "2", 1, -1), ZOK, "set");
  expect_event(ZOO_CHANGED_EVENT, w);
  expect(zoo_get_children(zh, w, 1, &names), ZOK, "get_children");
  deallocate_String_vector(&names);
  snprintf(buffer, sizeof(buffer), "%s/new", w);
  expect(zoo_create(zh, buffer, "", 0, &ZOO_OPEN_ACL_UNSAFE, 0, path, sizeof(path)), ZOK, "create");
  expect_event(ZOO_CHILD_EVENT, w);
  expect_no_event();
  end();

  begin("watcher functions");
  expect(zoo_wexists(zh, buffer, watcher, NULL, &stat), ZOK, "wexists");
  expect(zoo_delete(zh, buffer, -1), ZOK, "delete");
  expect_event(ZOO_DELETED_EVENT, buffer);
  expect(zoo_wexists(zh, buffer, watcher, NULL, &stat), ZNONODE, "wexists of a missing znode");
  expect(zoo_create(zh, buffer, "", 0, &ZOO_OPEN_ACL_UNSAFE, 0, path, sizeof(path)), ZOK, "create");
  expect_event(ZOO_CREATED_EVENT, buffer);
  char data[64];
  length = sizeof(data);
  expect(zoo_wget(zh, buffer, watcher, NULL, data, &length, &stat), ZOK, "wget");
  expect(zoo_wget_children(zh, w, watcher, NULL, &names), ZOK, "wget_children");
  deallocate_String_vector(&names);
  expect(zoo_delete(zh, buffer, -1), ZOK, "delete");
  expect_event(ZOO_DELETED_EVENT, buffer);
  expect_event(ZOO_CHILD_EVENT, w);
  expect(zoo_wget_children2(zh, w, watcher, NULL, &names, &stat), ZOK, "wget_children2");
  deallocate_String_vector(&names);
  expect(zoo_create(zh, buffer, "", 0, &ZOO_OPEN_ACL_UNSAFE, 0, path, sizeof(path)), ZOK, "create");
  expect_event(ZOO_CHILD_EVENT, w);
  end();

  begin("removal of watches");
  length = sizeof(data);
  expect(zoo_wget(zh, buffer, watcher, NULL, data, &length, &stat), ZOK, "wget");
  expect(zoo_remove_watches(zh, buffer, ZWATCHTYPE_DATA, watcher, NULL, 0), ZOK, "removed");
  length = sizeof(data);
  expect(zoo_wget(zh, buffer, watcher, NULL, data, &length, &stat), ZOK, "wget");
  expect(zoo_remove_all_watches(zh, buffer, ZWATCHTYPE_DATA, 0), ZOK, "all removed");
  expect(zoo_remove_all_watches(zh, buffer, ZWATCHTYPE_DATA, 0), ZNOWATCHER, "none is left");
  expect(zoo_set(zh, buffer, "x", 1, -1), ZOK, "set");
  usleep(100000);
  pthread_mutex_lock(&lock);
  /* The library's own events of removal have other types. */
  while (heard_read < heard_count && heard[heard_read].type > 4) {
    heard_read++;
  }
  pthread_mutex_unlock(&lock);
  expect_no_event();
  end();

  begin("multi");
  zoo_op_t ops[4];
  zoo_op_result_t results[4];
  struct Stat set_stat;
  char created[256], m[160];
  snprintf(m, sizeof(m), "%s/m", root);
  zoo_create_op_init(&ops[0], m, "1", 1, &ZOO_OPEN_ACL_UNSAFE, 0, created, sizeof(created));
  zoo_set_op_init(&ops[1], m, "22", 2, 0, &set_stat);
  zoo_check_op_init(&ops[2], m, 1);
  zoo_delete_op_init(&ops[3], m, 1);
  expect(zoo_multi(zh, 4, ops, results), ZOK, "all pass");
  expect_text(created, m, "created path");
  expect(set_stat.version, 1, "Stat of the set");
  zoo_create_op_init(&ops[0], m, "1", 1, &ZOO_OPEN_ACL_UNSAFE, 0, created, sizeof(created));
  zoo_check_op_init(&ops[1], m, 7);
  zoo_delete_op_init(&ops[2], m, 0);
  expect(zoo_multi(zh, 3, ops, results), ZBADVERSION, "one fails");
  expect(results[0].err, ZOK, "what came before");
  expect(results[1].err, ZBADVERSION, "what failed");
  expect(results[2].err, ZRUNTIMEINCONSISTENCY, "what came after");
  expect(zoo_exists(zh, m, 0, &stat), ZNONODE, "nothing is left");
  end();

  begin("configuration and reconfig");
  length = sizeof(buffer);
  expect(zoo_getconfig(zh, 0, buffer, &length, &stat), ZOK, "getconfig");
  expect(length, 0, "its length");
  length = sizeof(buffer);
  expect(zoo_reconfig(zh, NULL, "1", NULL, -1, buffer, &length, &stat), ZRECONFIGDISABLED,
         "reconfig");
  end();

  begin("close ends the session and its ephemerals");
  snprintf(path, sizeof(path), "%s/last", root);
  expect(zoo_create(zh, path, "", 0, &ZOO_OPEN_ACL_UNSAFE, ZOO_EPHEMERAL, buffer,
                    sizeof(buffer)), ZOK, "create");
  expect(zookeeper_close(zh), ZOK, "close");
  zhandle_t *last = open_client(hosts, NULL);
  expect(zoo_exists(last, path, 0, &stat), ZNONODE, "the ephemeral is gone");
  zookeeper_close(last);
  end();

  printf("END\n");
  return failures == 0 ? 0 : 1;
}
