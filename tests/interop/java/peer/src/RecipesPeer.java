import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.TreeSet;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.TimeUnit;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.CuratorFrameworkFactory;
import org.apache.curator.framework.recipes.atomic.AtomicValue;
import org.apache.curator.framework.recipes.atomic.CachedAtomicLong;
import org.apache.curator.framework.recipes.atomic.DistributedAtomicInteger;
import org.apache.curator.framework.recipes.atomic.DistributedAtomicLong;
import org.apache.curator.framework.recipes.atomic.DistributedAtomicNumber;
import org.apache.curator.framework.recipes.atomic.DistributedAtomicValue;
import org.apache.curator.framework.recipes.barriers.DistributedBarrier;
import org.apache.curator.framework.recipes.barriers.DistributedDoubleBarrier;
import org.apache.curator.framework.recipes.leader.LeaderLatch;
import org.apache.curator.framework.recipes.leader.LeaderSelector;
import org.apache.curator.framework.recipes.leader.LeaderSelectorListenerAdapter;
import org.apache.curator.framework.recipes.locks.InterProcessLock;
import org.apache.curator.framework.recipes.locks.InterProcessMultiLock;
import org.apache.curator.framework.recipes.locks.InterProcessMutex;
import org.apache.curator.framework.recipes.locks.InterProcessReadWriteLock;
import org.apache.curator.framework.recipes.locks.InterProcessSemaphoreMutex;
import org.apache.curator.framework.recipes.locks.InterProcessSemaphoreV2;
import org.apache.curator.framework.recipes.locks.Lease;
import org.apache.curator.framework.recipes.locks.Revoker;
import org.apache.curator.framework.recipes.nodes.GroupMember;
import org.apache.curator.framework.recipes.nodes.PersistentNode;
import org.apache.curator.framework.recipes.nodes.PersistentTtlNode;
import org.apache.curator.framework.recipes.queue.DistributedDelayQueue;
import org.apache.curator.framework.recipes.queue.DistributedIdQueue;
import org.apache.curator.framework.recipes.queue.DistributedPriorityQueue;
import org.apache.curator.framework.recipes.queue.DistributedQueue;
import org.apache.curator.framework.recipes.queue.QueueBase;
import org.apache.curator.framework.recipes.queue.QueueBuilder;
import org.apache.curator.framework.recipes.queue.QueueConsumer;
import org.apache.curator.framework.recipes.queue.QueueSerializer;
import org.apache.curator.framework.recipes.queue.QueueSharder;
import org.apache.curator.framework.recipes.queue.QueueSharderPolicies;
import org.apache.curator.framework.recipes.queue.SimpleDistributedQueue;
import org.apache.curator.framework.recipes.shared.SharedCount;
import org.apache.curator.framework.recipes.shared.SharedCountListener;
import org.apache.curator.framework.recipes.shared.SharedCountReader;
import org.apache.curator.framework.recipes.shared.SharedValue;
import org.apache.curator.framework.recipes.shared.SharedValueListener;
import org.apache.curator.framework.recipes.shared.SharedValueReader;
import org.apache.curator.framework.recipes.shared.VersionedValue;
import org.apache.curator.framework.state.ConnectionState;
import org.apache.curator.retry.ExponentialBackoffRetry;
import org.apache.curator.retry.RetryForever;
import org.apache.zookeeper.CreateMode;

/** The Curator side of recipes_matrix.py: rust/src/main.rs says what is asked and answered. */
public final class RecipesPeer {
    private static CuratorFramework client;
    private static final Map<String, Held> HELD = new ConcurrentHashMap<>();

    private interface Give {
        void run() throws Exception;
    }

    /** Something that is held, or goes on. Curator's locks belong to the thread that took them. */
    private static final class Held {
        final ExecutorService thread = Executors.newSingleThreadExecutor(work -> {
            Thread thread = new Thread(work);
            thread.setDaemon(true);
            return thread;
        });
        final List<String> items = Collections.synchronizedList(new ArrayList<>());
        Give give = () -> { };
    }

    private static final QueueSerializer<String> TEXT = new QueueSerializer<>() {
        @Override
        public byte[] serialize(String item) {
            return bytes(item);
        }

        @Override
        public String deserialize(byte[] bytes) {
            return text(bytes);
        }
    };

    public static void main(String[] arguments) throws Exception {
        client = CuratorFrameworkFactory.builder().connectString(arguments[0])
            .sessionTimeoutMs(Integer.parseInt(arguments[1])).connectionTimeoutMs(10_000)
            .retryPolicy(new ExponentialBackoffRetry(100, 5)).build();
        client.start();
        client.blockUntilConnected(15, TimeUnit.SECONDS);
        ExecutorService threads = Executors.newCachedThreadPool();
        say("0 ok");
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in));
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            String[] parts = line.split(" ", 2);
            String[] words = parts[1].split(" ");
            Runnable work = () -> answer(parts[0], words);
            if (words[0].equals("take")) {
                Held held = new Held();
                HELD.put(words[1], held);
                held.thread.execute(work);
            } else if (words[0].equals("give")) {
                HELD.get(words[1]).thread.execute(work);
            } else {
                threads.execute(work);
            }
        }
        Runtime.getRuntime().halt(0);
    }

    private static void answer(String number, String[] words) {
        try {
            say((number + " ok " + carryOut(words)).trim());
        } catch (Throwable error) {
            say(number + " error " + error.toString().replace('\n', ' '));
        }
    }

    private static synchronized void say(String line) {
        System.out.println(line);
        System.out.flush();
    }

    private static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    private static String text(byte[] data) {
        return new String(data, StandardCharsets.UTF_8);
    }

    private static String carryOut(String[] words) throws Exception {
        switch (words[0]) {
            case "take":
                Held held = HELD.get(words[1]);
                take(held, words[1], words[2], words[4], words);
                return "";
            case "give":
                Held given = HELD.remove(words[1]);
                given.give.run();
                given.thread.shutdown();
                return "";
            case "items":
                List<String> items = HELD.get(words[1]).items;
                synchronized (items) {
                    return String.join(",", items);
                }
            default:
                return ask(words[1], words[2], words[3], words);
        }
    }

    // What is held.

    private static InterProcessMutex mutex(String path, String id) {
        return new InterProcessMutex(client, path) {
            @Override
            protected byte[] getLockNodeBytes() {
                return bytes(id);
            }
        };
    }

    private static void acquire(Held held, InterProcessLock lock) throws Exception {
        lock.acquire();
        held.give = lock::release;
    }

    private static void acquire(Held held, InterProcessSemaphoreV2 semaphore, String id)
            throws Exception {
        semaphore.setNodeData(bytes(id));
        Lease lease = semaphore.acquire();
        held.give = () -> semaphore.returnLease(lease);
    }

    private static void take(Held held, String id, String kind, String path, String[] words)
            throws Exception {
        String layout = words[3];
        String rest = words.length > 5 ? words[5] : "";
        switch (kind) {
            case "mutex" -> acquire(held, mutex(path, id));
            case "revocable" -> {
                InterProcessMutex lock = mutex(path, id);
                // On the thread that has it: no other may release it.
                lock.makeRevocable(asked -> {
                    held.items.add("revoked");
                    try {
                        asked.release();
                    } catch (Exception error) {
                        held.items.add(error.toString());
                    }
                }, held.thread);
                lock.acquire();
            }
            case "read" -> acquire(held, readWrite(path, id).readLock());
            case "write" -> acquire(held, readWrite(path, id).writeLock());
            case "downgraded" -> {
                InterProcessReadWriteLock lock = readWrite(path, id);
                lock.writeLock().acquire();
                lock.readLock().acquire();
                lock.writeLock().release();
                held.give = () -> lock.readLock().release();
            }
            case "semaphore" -> acquire(held,
                new InterProcessSemaphoreV2(client, path, Integer.parseInt(rest)), id);
            case "shared-semaphore" -> {
                SharedCount count = new SharedCount(client, rest, 1);
                count.start();
                acquire(held, new InterProcessSemaphoreV2(client, path, count), id);
                Give give = held.give;
                held.give = () -> {
                    give.run();
                    count.close();
                };
            }
            case "semaphore-mutex" -> acquire(held, new InterProcessSemaphoreMutex(client, path));
            case "multi" -> {
                List<InterProcessLock> locks = new ArrayList<>();
                // Curator takes them in the order in which they are named.
                TreeSet<String> paths = new TreeSet<>(List.of(path, rest));
                paths.forEach(one -> locks.add(mutex(one, id)));
                acquire(held, new InterProcessMultiLock(locks));
            }
            case "latch" -> {
                LeaderLatch latch = new LeaderLatch(client, path, id);
                latch.start();
                latch.await();
                held.give = latch::close;
            }
            case "selector" -> select(held, path, id);
            case "gate" -> new DistributedBarrier(client, path).waitOnBarrier();
            case "double" -> {
                DistributedDoubleBarrier barrier =
                    new DistributedDoubleBarrier(client, path, Integer.parseInt(rest));
                barrier.enter();
                held.give = barrier::leave;
            }
            case "member" -> {
                GroupMember member = new GroupMember(client, path, id, bytes(id));
                member.start();
                while (client.checkExists().forPath(path + "/" + id) == null) {
                    Thread.sleep(2);
                }
                held.give = member::close;
            }
            case "node" -> {
                PersistentNode node =
                    new PersistentNode(client, CreateMode.EPHEMERAL, false, path, bytes(id));
                node.start();
                node.waitForInitialCreate(15, TimeUnit.SECONDS);
                held.give = node::close;
            }
            case "ttl" -> {
                PersistentTtlNode node =
                    new PersistentTtlNode(client, path, Long.parseLong(rest), bytes(id));
                node.start();
                node.waitForInitialCreate(15, TimeUnit.SECONDS);
                held.give = node::close;
            }
            case "consume" -> consume(held, layout, rest, path);
            case "follow-count" -> followCount(held, path);
            case "follow-value" -> followValue(held, path);
            default -> throw new IllegalArgumentException("no " + kind);
        }
    }

    private static InterProcessReadWriteLock readWrite(String path, String id) {
        return new InterProcessReadWriteLock(client, path, bytes(id));
    }

    private static void select(Held held, String path, String id) throws Exception {
        CountDownLatch leads = new CountDownLatch(1);
        CountDownLatch ends = new CountDownLatch(1);
        CountDownLatch ended = new CountDownLatch(1);
        LeaderSelector selector = new LeaderSelector(client, path,
            new LeaderSelectorListenerAdapter() {
                @Override
                public void takeLeadership(CuratorFramework any) throws Exception {
                    leads.countDown();
                    ends.await();
                    ended.countDown();
                }
            });
        selector.setId(id);
        selector.start();
        leads.await();
        held.give = () -> {
            ends.countDown();
            ended.await();
            selector.close();
        };
    }

    private static QueueBuilder<String> queue(String layout, String path,
            QueueConsumer<String> consumer) {
        QueueBuilder<String> builder = QueueBuilder.builder(client, consumer, TEXT, path);
        return layout.equals("once") ? builder : builder.lockPath(path + "-locks");
    }

    private static QueueBase<String> built(QueueBuilder<String> builder, String order) {
        return switch (order) {
            case "priority" -> builder.buildPriorityQueue(1);
            case "delay" -> builder.buildDelayQueue();
            case "id" -> builder.buildIdQueue();
            default -> builder.buildQueue();
        };
    }

    private static void consume(Held held, String layout, String order, String path)
            throws Exception {
        if (layout.equals("simple")) {
            consumeSimple(held, path);
            return;
        }
        QueueConsumer<String> consumer = new QueueConsumer<>() {
            @Override
            public void consumeMessage(String item) {
                held.items.add(item);
            }

            @Override
            public void stateChanged(CuratorFramework any, ConnectionState state) { }
        };
        QueueBase<String> queue = built(queue(layout, path, consumer), order);
        queue.start();
        held.give = queue::close;
    }

    private static void consumeSimple(Held held, String path) {
        SimpleDistributedQueue queue = new SimpleDistributedQueue(client, path);
        CountDownLatch stop = new CountDownLatch(1);
        Thread thread = new Thread(() -> {
            try {
                while (stop.getCount() > 0) {
                    byte[] item = queue.poll(100, TimeUnit.MILLISECONDS);
                    if (item != null) {
                        held.items.add(text(item));
                    }
                }
            } catch (Exception error) {
                held.items.add(error.toString());
            }
        });
        thread.setDaemon(true);
        thread.start();
        held.give = () -> {
            stop.countDown();
            thread.join();
        };
    }

    private static void followCount(Held held, String path) throws Exception {
        SharedCount count = new SharedCount(client, path, 0);
        count.addListener(new SharedCountListener() {
            @Override
            public void countHasChanged(SharedCountReader reader, int value) {
                held.items.add(Integer.toString(value));
            }

            @Override
            public void stateChanged(CuratorFramework any, ConnectionState state) { }
        });
        count.start();
        held.give = count::close;
    }

    private static void followValue(Held held, String path) throws Exception {
        SharedValue value = new SharedValue(client, path, new byte[0]);
        value.getListenable().addListener(new SharedValueListener() {
            @Override
            public void valueHasChanged(SharedValueReader reader, byte[] data) {
                held.items.add(text(data));
            }

            @Override
            public void stateChanged(CuratorFramework any, ConnectionState state) { }
        });
        value.start();
        held.give = value::close;
    }

    // What is asked.

    private static String ask(String kind, String layout, String path, String[] words)
            throws Exception {
        String what = words.length > 4 ? words[4] : "";
        switch (kind) {
            case "gate":
                DistributedBarrier gate = new DistributedBarrier(client, path);
                if (what.equals("close")) {
                    gate.setBarrier();
                } else {
                    gate.removeBarrier();
                }
                return "";
            case "members":
                return members(path);
            case "counter":
                DistributedAtomicNumber<?> number = layout.equals("int")
                    ? new DistributedAtomicInteger(client, path, new RetryForever(1))
                    : new DistributedAtomicLong(client, path, new RetryForever(1));
                return number(number, layout, words);
            case "count":
                return count(path, words);
            case "value":
                return value(layout, path, words);
            case "cached":
                CachedAtomicLong cached = new CachedAtomicLong(
                    new DistributedAtomicLong(client, path, new RetryForever(1)), 4);
                List<String> numbers = new ArrayList<>();
                for (int i = Integer.parseInt(what); i > 0; i--) {
                    numbers.add(Long.toString(cached.next().preValue()));
                }
                return String.join(",", numbers);
            case "put":
                put(layout, path, words);
                return "";
            case "remove":
                DistributedIdQueue<String> queue = queue(layout, path, null).buildIdQueue();
                queue.start();
                String removed = Integer.toString(queue.remove(what));
                queue.close();
                return removed;
            case "revoke":
                Revoker.attemptRevoke(client, path);
                return "";
            case "leader":
                if (what.equals("selector")) {
                    return new LeaderSelector(client, path,
                        new LeaderSelectorListenerAdapter() {
                            @Override
                            public void takeLeadership(CuratorFramework any) { }
                        }).getLeader().getId();
                }
                return new LeaderLatch(client, path).getLeader().getId();
            default:
                throw new IllegalArgumentException("no " + kind);
        }
    }

    /** A GroupMember is in its own list: one of the listing alone is left out. */
    private static String members(String path) throws Exception {
        GroupMember member = new GroupMember(client, path, "onlooker");
        member.start();
        Thread.sleep(200);
        TreeSet<String> ids = new TreeSet<>(member.getCurrentMembers().keySet());
        member.close();
        ids.remove("onlooker");
        return String.join(",", ids);
    }

    @SuppressWarnings("unchecked")
    private static String number(DistributedAtomicNumber<?> number, String layout, String[] words)
            throws Exception {
        AtomicValue<?> value;
        if (!words[4].equals("add")) {
            value = number.get();
        } else if (layout.equals("int")) {
            value = ((DistributedAtomicNumber<Integer>) number).add(Integer.valueOf(words[5]));
        } else {
            value = ((DistributedAtomicNumber<Long>) number).add(Long.valueOf(words[5]));
        }
        if (!value.succeeded()) {
            throw new IllegalStateException("it did not succeed");
        }
        return String.valueOf(value.postValue());
    }

    private static String count(String path, String[] words) throws Exception {
        try (SharedCount count = new SharedCount(client, path, 0)) {
            count.start();
            switch (words[4]) {
                case "set":
                    count.setCount(Integer.parseInt(words[5]));
                    return "";
                case "add":
                    while (true) {
                        VersionedValue<Integer> seen = count.getVersionedValue();
                        int sum = seen.getValue() + Integer.parseInt(words[5]);
                        if (count.trySetCount(seen, sum)) {
                            return Integer.toString(sum);
                        }
                    }
                default:
                    return Integer.toString(count.getCount());
            }
        }
    }

    private static String value(String layout, String path, String[] words) throws Exception {
        boolean writes = words[4].equals("set");
        if (layout.equals("atomic")) {
            DistributedAtomicValue value =
                new DistributedAtomicValue(client, path, new RetryForever(1));
            if (writes) {
                value.forceSet(bytes(words[5]));
                return words[5];
            }
            return text(value.get().postValue());
        }
        try (SharedValue value = new SharedValue(client, path, new byte[0])) {
            value.start();
            if (writes) {
                value.setValue(bytes(words[5]));
                return words[5];
            }
            return text(value.getValue());
        }
    }

    private static void put(String layout, String path, String[] words) throws Exception {
        String order = words[4];
        String body = words[5];
        String wish = words.length > 6 ? words[6] : "0";
        if (layout.equals("simple")) {
            new SimpleDistributedQueue(client, path).offer(bytes(body));
            return;
        }
        if (layout.equals("sharded")) {
            QueueSharderPolicies policies = QueueSharderPolicies.builder().newQueueThreshold(1_000)
                .thresholdCheckMs(50).build();
            try (QueueSharder<String, DistributedQueue<String>> sharder = new QueueSharder<>(
                    client, (any, shard) -> queue("once", shard, null).buildQueue(), path,
                    path + "-leader", policies)) {
                sharder.start();
                DistributedQueue<String> queue = sharder.getQueue();
                queue.put(body);
                queue.flushPuts(15, TimeUnit.SECONDS);
            }
            return;
        }
        QueueBase<String> queue = built(queue(layout, path, null), order);
        queue.start();
        switch (order) {
            case "priority" ->
                ((DistributedPriorityQueue<String>) queue).put(body, Integer.parseInt(wish));
            case "delay" -> ((DistributedDelayQueue<String>) queue)
                .put(body, System.currentTimeMillis() + Long.parseLong(wish));
            case "id" -> ((DistributedIdQueue<String>) queue).put(body, wish);
            default -> ((DistributedQueue<String>) queue).put(body);
        }
        queue.flushPuts(15, TimeUnit.SECONDS);
        queue.close();
    }
}
