import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.Collections;
import java.util.List;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.Callable;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.CyclicBarrier;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.function.BooleanSupplier;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.CuratorFrameworkFactory;
import org.apache.curator.framework.api.transaction.CuratorOp;
import org.apache.curator.framework.api.transaction.CuratorTransactionResult;
import org.apache.curator.framework.recipes.atomic.DistributedAtomicLong;
import org.apache.curator.framework.recipes.barriers.DistributedBarrier;
import org.apache.curator.framework.recipes.barriers.DistributedDoubleBarrier;
import org.apache.curator.framework.recipes.cache.CuratorCache;
import org.apache.curator.framework.recipes.cache.CuratorCacheListener;
import org.apache.curator.framework.recipes.cache.NodeCache;
import org.apache.curator.framework.recipes.cache.PathChildrenCache;
import org.apache.curator.framework.recipes.cache.TreeCache;
import org.apache.curator.framework.recipes.leader.LeaderLatch;
import org.apache.curator.framework.recipes.leader.LeaderSelector;
import org.apache.curator.framework.recipes.leader.LeaderSelectorListenerAdapter;
import org.apache.curator.framework.recipes.locks.InterProcessMutex;
import org.apache.curator.framework.recipes.locks.InterProcessReadWriteLock;
import org.apache.curator.framework.recipes.locks.InterProcessSemaphoreV2;
import org.apache.curator.framework.recipes.locks.Lease;
import org.apache.curator.framework.recipes.nodes.GroupMember;
import org.apache.curator.framework.recipes.nodes.PersistentNode;
import org.apache.curator.framework.recipes.nodes.PersistentTtlNode;
import org.apache.curator.framework.recipes.queue.DistributedQueue;
import org.apache.curator.framework.recipes.queue.QueueBuilder;
import org.apache.curator.framework.recipes.queue.QueueConsumer;
import org.apache.curator.framework.recipes.queue.QueueSerializer;
import org.apache.curator.framework.recipes.shared.SharedCount;
import org.apache.curator.framework.recipes.watch.PersistentWatcher;
import org.apache.curator.framework.state.ConnectionState;
import org.apache.curator.retry.ExponentialBackoffRetry;
import org.apache.curator.x.discovery.ServiceCache;
import org.apache.curator.x.discovery.ServiceDiscovery;
import org.apache.curator.x.discovery.ServiceDiscoveryBuilder;
import org.apache.curator.x.discovery.ServiceInstance;
import org.apache.curator.x.discovery.ServiceProvider;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.KeeperException;
import org.apache.zookeeper.Watcher;
import org.apache.zookeeper.ZooDefs;
import org.apache.zookeeper.data.ACL;
import org.apache.zookeeper.data.Id;
import org.apache.zookeeper.data.Stat;
import org.apache.zookeeper.server.auth.DigestAuthenticationProvider;

/** Apache Curator's recipes, each used by at least two clients. One line per step. */
public final class CuratorProgram {
    private static final int PATIENCE_S = 20;
    private static String hosts;
    private static final List<CuratorFramework> CLIENTS = new ArrayList<>();
    private static int failures = 0;

    private interface Step {
        void run(String root) throws Exception;
    }

    private static CuratorFramework client() throws Exception {
        CuratorFramework client = CuratorFrameworkFactory.builder()
                .connectString(hosts).sessionTimeoutMs(15000).connectionTimeoutMs(10000)
                .retryPolicy(new ExponentialBackoffRetry(100, 5)).build();
        client.start();
        check(client.blockUntilConnected(PATIENCE_S, TimeUnit.SECONDS), "connected");
        CLIENTS.add(client);
        return client;
    }

    private static void check(boolean condition, String what) {
        if (!condition) {
            throw new IllegalStateException("not so: " + what);
        }
    }

    private static void same(Object actual, Object expected) {
        if (!expected.equals(actual)) {
            throw new IllegalStateException("expected " + expected + ", got " + actual);
        }
    }

    private static void until(BooleanSupplier condition, String what) throws Exception {
        long end = System.nanoTime() + TimeUnit.SECONDS.toNanos(PATIENCE_S);
        while (!condition.getAsBoolean()) {
            check(System.nanoTime() < end, what + " in time");
            Thread.sleep(10);
        }
    }

    private static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    private static String text(byte[] data) {
        return new String(data, StandardCharsets.UTF_8);
    }

    private static void step(String name, Step step) {
        String root = "/curator-" + Long.toHexString(System.nanoTime());
        try {
            step.run(root);
            System.out.println("OK " + name);
        } catch (Throwable error) {
            failures++;
            System.out.println("FAIL " + name + ": " + error);
            error.printStackTrace();
        }
        for (CuratorFramework client : CLIENTS) {
            client.close();
        }
        CLIENTS.clear();
    }

    public static void main(String[] arguments) {
        hosts = arguments[0];
        step("basic operations", CuratorProgram::basics);
        step("protected and idempotent creates", CuratorProgram::creates);
        step("transactions", CuratorProgram::transactions);
        step("ACLs", CuratorProgram::acls);
        step("background operations", CuratorProgram::background);
        step("mutex", CuratorProgram::mutex);
        step("mutex of a client that went away", CuratorProgram::mutexTakeover);
        step("read-write lock", CuratorProgram::readWriteLock);
        step("semaphore", CuratorProgram::semaphore);
        step("leader latch", CuratorProgram::leaderLatch);
        step("leader selector", CuratorProgram::leaderSelector);
        step("CuratorCache", CuratorProgram::curatorCache);
        step("older caches", CuratorProgram::olderCaches);
        step("persistent watcher", CuratorProgram::persistentWatcher);
        step("watches and their removal", CuratorProgram::watches);
        step("queue", CuratorProgram::queue);
        step("barriers", CuratorProgram::barriers);
        step("counters", CuratorProgram::counters);
        step("persistent and TTL nodes", CuratorProgram::nodes);
        step("group membership", CuratorProgram::group);
        step("service discovery", CuratorProgram::discovery);
        step("reconnect keeps the session", CuratorProgram::reconnect);
        System.exit(failures == 0 ? 0 : 1);
    }

    private static void basics(String root) throws Exception {
        CuratorFramework client = client();
        same(client.create().creatingParentsIfNeeded().forPath(root + "/a/b", bytes("x")),
                root + "/a/b");
        Stat stat = new Stat();
        same(text(client.getData().storingStatIn(stat).forPath(root + "/a/b")), "x");
        same(stat.getVersion(), 0);
        same(client.setData().withVersion(0).forPath(root + "/a/b", bytes("y")).getVersion(), 1);
        try {
            client.setData().withVersion(0).forPath(root + "/a/b", bytes("z"));
            check(false, "a wrong version is refused");
        } catch (KeeperException.BadVersionException expected) {
            // As it should be.
        }
        same(client.getChildren().forPath(root + "/a"), Arrays.asList("b"));
        client.create().orSetData().forPath(root + "/a/b", bytes("again"));
        same(text(client.getData().forPath(root + "/a/b")), "again");
        client.create().withTtl(60000).withMode(CreateMode.PERSISTENT_WITH_TTL)
                .forPath(root + "/ttl");
        client.create().creatingParentContainersIfNeeded().forPath(root + "/c1/c2/leaf");
        client.sync().forPath(root);
        CuratorFramework spaced = client.usingNamespace(root.substring(1));
        same(text(spaced.getData().forPath("/a/b")), "again");
        client.delete().guaranteed().deletingChildrenIfNeeded().forPath(root);
        check(client.checkExists().forPath(root) == null, "all is deleted");
    }

    private static void creates(String root) throws Exception {
        CuratorFramework client = client();
        String path = client.create().creatingParentsIfNeeded().withProtection()
                .withMode(CreateMode.EPHEMERAL_SEQUENTIAL).forPath(root + "/p-");
        check(path.matches(root + "/_c_[-0-9a-f]+-p-0000000000"), path);
        client.create().idempotent().forPath(root + "/i", bytes("x"));
        client.create().idempotent().forPath(root + "/i", bytes("x"));
        client.setData().idempotent().withVersion(0).forPath(root + "/i", bytes("y"));
        client.delete().idempotent().withVersion(1).forPath(root + "/i");
        client.delete().quietly().forPath(root + "/i");
    }

    private static void transactions(String root) throws Exception {
        CuratorFramework client = client();
        client.create().forPath(root);
        CuratorOp create = client.transactionOp().create().withMode(CreateMode.PERSISTENT)
                .forPath(root + "/a", bytes("1"));
        CuratorOp set = client.transactionOp().setData().forPath(root + "/a", bytes("2"));
        CuratorOp check = client.transactionOp().check().withVersion(1).forPath(root + "/a");
        Collection<CuratorTransactionResult> results =
                client.transaction().forOperations(create, set, check);
        same(results.size(), 3);
        try {
            client.transaction().forOperations(
                    client.transactionOp().delete().forPath(root + "/a"),
                    client.transactionOp().check().withVersion(9).forPath(root));
            check(false, "the transaction fails");
        } catch (KeeperException.BadVersionException expected) {
            same(expected.getResults().size(), 2);
        }
        same(text(client.getData().forPath(root + "/a")), "2");
    }

    private static void acls(String root) throws Exception {
        CuratorFramework client = client();
        String digest = DigestAuthenticationProvider.generateDigest("alice:secret");
        List<ACL> acl = Collections.singletonList(
                new ACL(ZooDefs.Perms.ALL, new Id("digest", digest)));
        client.create().withACL(acl).forPath(root, bytes("private"));
        try {
            client.getData().forPath(root);
            check(false, "a stranger is refused");
        } catch (KeeperException.NoAuthException expected) {
            // As it should be.
        }
        client.getZookeeperClient().getZooKeeper().addAuthInfo("digest", bytes("alice:secret"));
        same(text(client.getData().forPath(root)), "private");
        same(client.getACL().forPath(root), acl);
    }

    private static void background(String root) throws Exception {
        CuratorFramework client = client();
        client.create().forPath(root);
        int count = 200;
        CountDownLatch done = new CountDownLatch(count);
        AtomicInteger good = new AtomicInteger();
        for (int i = 0; i < count; i++) {
            client.create().inBackground((c, event) -> {
                if (event.getResultCode() == 0) {
                    good.incrementAndGet();
                }
                done.countDown();
            }).forPath(root + "/" + i);
        }
        check(done.await(PATIENCE_S, TimeUnit.SECONDS), "all answers come");
        same(good.get(), count);
        same(client.getChildren().forPath(root).size(), count);
    }

    private static void mutex(String root) throws Exception {
        AtomicInteger inside = new AtomicInteger();
        AtomicInteger most = new AtomicInteger();
        AtomicInteger turns = new AtomicInteger();
        List<Thread> threads = new ArrayList<>();
        for (int i = 0; i < 4; i++) {
            CuratorFramework client = client();
            threads.add(new Thread(() -> {
                InterProcessMutex mutex = new InterProcessMutex(client, root);
                try {
                    for (int turn = 0; turn < 5; turn++) {
                        check(mutex.acquire(PATIENCE_S, TimeUnit.SECONDS), "acquired");
                        most.accumulateAndGet(inside.incrementAndGet(), Math::max);
                        mutex.acquire();
                        mutex.release();
                        inside.decrementAndGet();
                        turns.incrementAndGet();
                        mutex.release();
                    }
                } catch (Exception error) {
                    error.printStackTrace();
                }
            }));
        }
        for (Thread thread : threads) {
            thread.start();
        }
        for (Thread thread : threads) {
            thread.join(60000);
        }
        same(most.get(), 1);
        same(turns.get(), 20);
    }

    private static void mutexTakeover(String root) throws Exception {
        CuratorFramework first = client();
        InterProcessMutex held = new InterProcessMutex(first, root);
        held.acquire();
        InterProcessMutex waiting = new InterProcessMutex(client(), root);
        check(!waiting.acquire(200, TimeUnit.MILLISECONDS), "it is held");
        first.close();
        check(waiting.acquire(PATIENCE_S, TimeUnit.SECONDS), "it is free when its holder is gone");
        same(waiting.getParticipantNodes().size(), 1);
    }

    private static void readWriteLock(String root) throws Exception {
        InterProcessReadWriteLock one = new InterProcessReadWriteLock(client(), root);
        InterProcessReadWriteLock two = new InterProcessReadWriteLock(client(), root);
        check(one.readLock().acquire(5, TimeUnit.SECONDS), "a reader");
        check(two.readLock().acquire(5, TimeUnit.SECONDS), "a second reader");
        check(!two.writeLock().acquire(200, TimeUnit.MILLISECONDS), "no writer among readers");
        one.readLock().release();
        two.readLock().release();
        check(two.writeLock().acquire(5, TimeUnit.SECONDS), "a writer");
        check(!one.readLock().acquire(200, TimeUnit.MILLISECONDS), "no reader beside a writer");
        check(two.readLock().acquire(5, TimeUnit.SECONDS), "the writer may read");
        two.readLock().release();
        two.writeLock().release();
        check(one.readLock().acquire(5, TimeUnit.SECONDS), "a reader again");
    }

    private static void semaphore(String root) throws Exception {
        InterProcessSemaphoreV2 one = new InterProcessSemaphoreV2(client(), root, 2);
        InterProcessSemaphoreV2 two = new InterProcessSemaphoreV2(client(), root, 2);
        Collection<Lease> leases = one.acquire(2, 5, TimeUnit.SECONDS);
        check(leases != null, "two leases");
        check(two.acquire(200, TimeUnit.MILLISECONDS) == null, "no third one");
        one.returnAll(leases);
        check(two.acquire(5, TimeUnit.SECONDS) != null, "one is free again");
    }

    private static void leaderLatch(String root) throws Exception {
        List<LeaderLatch> latches = new ArrayList<>();
        for (int i = 0; i < 3; i++) {
            LeaderLatch latch = new LeaderLatch(client(), root, "id" + i);
            latch.start();
            latches.add(latch);
        }
        for (int i = 0; i < 3; i++) {
            until(() -> latches.stream().filter(LeaderLatch::hasLeadership).count() == 1,
                    "one leader");
            LeaderLatch leader =
                    latches.stream().filter(LeaderLatch::hasLeadership).findFirst().get();
            for (LeaderLatch latch : latches) {
                same(latch.getLeader().getId(), leader.getId());
            }
            latches.remove(leader);
            leader.close();
        }
    }

    private static void leaderSelector(String root) throws Exception {
        BlockingQueue<String> led = new LinkedBlockingQueue<>();
        List<LeaderSelector> selectors = new ArrayList<>();
        for (int i = 0; i < 3; i++) {
            String name = "s" + i;
            LeaderSelector selector = new LeaderSelector(client(), root,
                    new LeaderSelectorListenerAdapter() {
                        @Override
                        public void takeLeadership(CuratorFramework client) {
                            led.add(name);
                        }
                    });
            selector.start();
            selectors.add(selector);
        }
        List<String> names = new ArrayList<>();
        for (int i = 0; i < 3; i++) {
            names.add(String.valueOf(led.poll(PATIENCE_S, TimeUnit.SECONDS)));
        }
        Collections.sort(names);
        same(names, Arrays.asList("s0", "s1", "s2"));
        selectors.forEach(LeaderSelector::close);
    }

    private static void curatorCache(String root) throws Exception {
        CuratorFramework writer = client();
        writer.create().creatingParentsIfNeeded().forPath(root + "/a", bytes("1"));
        CuratorCache cache = CuratorCache.build(client(), root);
        BlockingQueue<String> heard = new LinkedBlockingQueue<>();
        CountDownLatch ready = new CountDownLatch(1);
        cache.listenable().addListener(CuratorCacheListener.builder()
                .forCreates(node -> heard.add("+" + node.getPath()))
                .forChanges((old, node) -> heard.add("~" + node.getPath()))
                .forDeletes(node -> heard.add("-" + node.getPath()))
                .forInitialized(ready::countDown).build());
        cache.start();
        check(ready.await(PATIENCE_S, TimeUnit.SECONDS), "the cache is filled");
        heard.clear();
        writer.create().forPath(root + "/b", bytes("x"));
        same(heard.poll(PATIENCE_S, TimeUnit.SECONDS), "+" + root + "/b");
        writer.create().forPath(root + "/b/c");
        same(heard.poll(PATIENCE_S, TimeUnit.SECONDS), "+" + root + "/b/c");
        writer.setData().forPath(root + "/a", bytes("2"));
        same(heard.poll(PATIENCE_S, TimeUnit.SECONDS), "~" + root + "/a");
        writer.delete().forPath(root + "/b/c");
        same(heard.poll(PATIENCE_S, TimeUnit.SECONDS), "-" + root + "/b/c");
        same(text(cache.get(root + "/a").get().getData()), "2");
        same(cache.size(), 3);
        for (int i = 0; i < 100; i++) {
            writer.create().forPath(root + "/n" + i);
        }
        until(() -> cache.size() == 103, "all are seen");
        cache.close();
    }

    @SuppressWarnings("deprecation")
    private static void olderCaches(String root) throws Exception {
        CuratorFramework writer = client();
        writer.create().forPath(root, bytes("0"));
        CuratorFramework reader = client();
        PathChildrenCache children = new PathChildrenCache(reader, root, true);
        children.start(PathChildrenCache.StartMode.BUILD_INITIAL_CACHE);
        NodeCache node = new NodeCache(reader, root);
        node.start(true);
        TreeCache tree = new TreeCache(reader, root);
        tree.start();
        writer.create().forPath(root + "/a", bytes("1"));
        until(() -> children.getCurrentData().size() == 1, "the child is seen");
        writer.setData().forPath(root, bytes("new"));
        until(() -> text(node.getCurrentData().getData()).equals("new"), "the data are seen");
        until(() -> tree.getCurrentData(root + "/a") != null, "the tree has it");
        writer.delete().forPath(root + "/a");
        until(() -> children.getCurrentData().isEmpty()
                && tree.getCurrentData(root + "/a") == null, "the deletion is seen");
        children.close();
        node.close();
        tree.close();
    }

    private static void persistentWatcher(String root) throws Exception {
        CuratorFramework writer = client();
        writer.create().forPath(root);
        for (boolean recursive : new boolean[] {true, false}) {
            BlockingQueue<String> heard = new LinkedBlockingQueue<>();
            CountDownLatch set = new CountDownLatch(1);
            PersistentWatcher watcher = new PersistentWatcher(client(), root, recursive);
            watcher.getListenable().addListener(
                    event -> heard.add(event.getType() + " " + event.getPath()));
            watcher.getResetListenable().addListener(set::countDown);
            watcher.start();
            check(set.await(PATIENCE_S, TimeUnit.SECONDS), "the watch is set");
            String path = root + "/" + recursive;
            writer.create().forPath(path);
            writer.setData().forPath(path, bytes("x"));
            writer.setData().forPath(root, bytes("x"));
            List<String> expected = recursive
                    ? Arrays.asList("NodeCreated " + path, "NodeDataChanged " + path,
                            "NodeDataChanged " + root)
                    : Arrays.asList("NodeChildrenChanged " + root, "NodeDataChanged " + root);
            for (String one : expected) {
                same(heard.poll(PATIENCE_S, TimeUnit.SECONDS), one);
            }
            watcher.close();
        }
    }

    private static void watches(String root) throws Exception {
        CuratorFramework client = client();
        client.create().forPath(root);
        BlockingQueue<Watcher.Event.EventType> heard = new LinkedBlockingQueue<>();
        Watcher watcher = event -> heard.add(event.getType());
        client.getData().usingWatcher(watcher).forPath(root);
        client.setData().forPath(root, bytes("x"));
        same(heard.poll(PATIENCE_S, TimeUnit.SECONDS), Watcher.Event.EventType.NodeDataChanged);
        client.getData().usingWatcher(watcher).forPath(root);
        client.watchers().remove(watcher).ofType(Watcher.WatcherType.Data).forPath(root);
        same(heard.poll(PATIENCE_S, TimeUnit.SECONDS), Watcher.Event.EventType.DataWatchRemoved);
        client.getChildren().usingWatcher(watcher).forPath(root);
        client.watchers().removeAll().forPath(root);
        same(heard.poll(PATIENCE_S, TimeUnit.SECONDS), Watcher.Event.EventType.ChildWatchRemoved);
    }

    private static void queue(String root) throws Exception {
        QueueSerializer<String> serializer = new QueueSerializer<>() {
            @Override
            public byte[] serialize(String item) {
                return bytes(item);
            }

            @Override
            public String deserialize(byte[] data) {
                return text(data);
            }
        };
        BlockingQueue<String> taken = new LinkedBlockingQueue<>();
        QueueConsumer<String> consumer = new QueueConsumer<>() {
            @Override
            public void consumeMessage(String message) {
                taken.add(message);
            }

            @Override
            public void stateChanged(CuratorFramework client, ConnectionState state) {
            }
        };
        DistributedQueue<String> out =
                QueueBuilder.builder(client(), consumer, serializer, root).buildQueue();
        out.start();
        DistributedQueue<String> in =
                QueueBuilder.builder(client(), null, serializer, root).buildQueue();
        in.start();
        for (int i = 0; i < 20; i++) {
            in.put("m" + i);
            check(in.flushPuts(PATIENCE_S, TimeUnit.SECONDS), "it is sent");
        }
        for (int i = 0; i < 20; i++) {
            same(taken.poll(PATIENCE_S, TimeUnit.SECONDS), "m" + i);
        }
        in.close();
        out.close();
    }

    private static void barriers(String root) throws Exception {
        DistributedBarrier barrier = new DistributedBarrier(client(), root + "/one");
        barrier.setBarrier();
        DistributedBarrier other = new DistributedBarrier(client(), root + "/one");
        check(!other.waitOnBarrier(200, TimeUnit.MILLISECONDS), "it stands");
        barrier.removeBarrier();
        check(other.waitOnBarrier(PATIENCE_S, TimeUnit.SECONDS), "it is gone");
        AtomicInteger through = new AtomicInteger();
        CyclicBarrier start = new CyclicBarrier(3);
        List<Thread> threads = new ArrayList<>();
        for (int i = 0; i < 3; i++) {
            DistributedDoubleBarrier both =
                    new DistributedDoubleBarrier(client(), root + "/two", 3);
            threads.add(new Thread(() -> {
                try {
                    start.await();
                    check(both.enter(PATIENCE_S, TimeUnit.SECONDS), "in");
                    check(both.leave(PATIENCE_S, TimeUnit.SECONDS), "out");
                    through.incrementAndGet();
                } catch (Exception error) {
                    error.printStackTrace();
                }
            }));
        }
        for (Thread thread : threads) {
            thread.start();
        }
        for (Thread thread : threads) {
            thread.join(60000);
        }
        same(through.get(), 3);
    }

    private static void counters(String root) throws Exception {
        SharedCount one = new SharedCount(client(), root + "/shared", 0);
        SharedCount two = new SharedCount(client(), root + "/shared", 0);
        one.start();
        two.start();
        one.setCount(7);
        until(() -> two.getCount() == 7, "the other one sees it");
        List<Callable<Boolean>> adders = new ArrayList<>();
        for (int i = 0; i < 2; i++) {
            DistributedAtomicLong counter = new DistributedAtomicLong(client(), root + "/atomic",
                    new ExponentialBackoffRetry(10, 10));
            for (int n = 0; n < 10; n++) {
                adders.add(() -> counter.increment().succeeded());
            }
        }
        for (Callable<Boolean> adder : adders) {
            check(adder.call(), "added");
        }
        same(new DistributedAtomicLong(client(), root + "/atomic",
                new ExponentialBackoffRetry(10, 10)).get().postValue(), 20L);
        one.close();
        two.close();
    }

    private static void nodes(String root) throws Exception {
        CuratorFramework client = client();
        client.create().forPath(root);
        PersistentNode node = new PersistentNode(client, CreateMode.EPHEMERAL, false,
                root + "/node", bytes("x"));
        node.start();
        check(node.waitForInitialCreate(PATIENCE_S, TimeUnit.SECONDS), "it is made");
        CuratorFramework other = client();
        other.delete().forPath(root + "/node");
        until(() -> {
            try {
                return other.checkExists().forPath(root + "/node") != null;
            } catch (Exception error) {
                return false;
            }
        }, "it comes back");
        node.close();
        PersistentTtlNode ttl = new PersistentTtlNode(client, root + "/ttl", 60000, bytes("x"));
        ttl.start();
        check(ttl.waitForInitialCreate(PATIENCE_S, TimeUnit.SECONDS), "the TTL node is made");
        ttl.close();
    }

    private static void group(String root) throws Exception {
        GroupMember one = new GroupMember(client(), root, "one", bytes("1"));
        GroupMember two = new GroupMember(client(), root, "two", bytes("2"));
        one.start();
        two.start();
        until(() -> one.getCurrentMembers().size() == 2, "both are there");
        two.close();
        until(() -> one.getCurrentMembers().size() == 1, "one is left");
        one.close();
    }

    private static void discovery(String root) throws Exception {
        ServiceInstance<Void> instance = ServiceInstance.<Void>builder()
                .name("web").address("127.0.0.1").port(8080).build();
        ServiceDiscovery<Void> server = ServiceDiscoveryBuilder.builder(Void.class)
                .client(client()).basePath(root).thisInstance(instance).build();
        server.start();
        ServiceDiscovery<Void> seeker = ServiceDiscoveryBuilder.builder(Void.class)
                .client(client()).basePath(root).build();
        seeker.start();
        same(new ArrayList<>(seeker.queryForNames()), Arrays.asList("web"));
        ServiceProvider<Void> provider =
                seeker.serviceProviderBuilder().serviceName("web").build();
        provider.start();
        same(provider.getInstance().getPort(), 8080);
        ServiceCache<Void> cache = seeker.serviceCacheBuilder().name("web").build();
        cache.start();
        same(cache.getInstances().size(), 1);
        server.unregisterService(instance);
        until(() -> cache.getInstances().isEmpty(), "it is gone");
        cache.close();
        provider.close();
        seeker.close();
        server.close();
    }

    private static void reconnect(String root) throws Exception {
        CuratorFramework client = client();
        client.create().withMode(CreateMode.EPHEMERAL).forPath(root);
        BlockingQueue<Watcher.Event.EventType> heard = new LinkedBlockingQueue<>();
        client.getData().usingWatcher((Watcher) event -> heard.add(event.getType())).forPath(root);
        BlockingQueue<ConnectionState> states = new LinkedBlockingQueue<>();
        client.getConnectionStateListenable().addListener((c, state) -> states.add(state));
        long session = client.getZookeeperClient().getZooKeeper().getSessionId();
        // What the client's own test hook does: its socket is shut, its session lives.
        Object cnxn = field(client.getZookeeperClient().getZooKeeper(), "cnxn");
        Object sender = field(cnxn, "sendThread");
        java.lang.reflect.Method cut = sender.getClass().getDeclaredMethod("testableCloseSocket");
        cut.setAccessible(true);
        cut.invoke(sender);
        same(states.poll(PATIENCE_S, TimeUnit.SECONDS), ConnectionState.SUSPENDED);
        same(states.poll(PATIENCE_S, TimeUnit.SECONDS), ConnectionState.RECONNECTED);
        same(client.getZookeeperClient().getZooKeeper().getSessionId(), session);
        check(client.checkExists().forPath(root) != null, "the ephemeral is there");
        heard.clear();
        // The watch was set again by the client.
        client().setData().forPath(root, bytes("x"));
        same(heard.poll(PATIENCE_S, TimeUnit.SECONDS), Watcher.Event.EventType.NodeDataChanged);
    }

    private static Object field(Object owner, String name) throws Exception {
        Class<?> type = owner.getClass();
        while (type != null) {
            try {
                java.lang.reflect.Field field = type.getDeclaredField(name);
                field.setAccessible(true);
                return field.get(owner);
            } catch (NoSuchFieldException next) {
                type = type.getSuperclass();
            }
        }
        throw new NoSuchFieldException(name);
    }
}
