import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.Callable;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.Semaphore;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.CuratorFrameworkFactory;
import org.apache.curator.framework.recipes.locks.InterProcessMutex;
import org.apache.curator.framework.recipes.queue.DistributedQueue;
import org.apache.curator.framework.recipes.queue.MultiItem;
import org.apache.curator.framework.recipes.queue.QueueBuilder;
import org.apache.curator.framework.recipes.queue.QueueConsumer;
import org.apache.curator.framework.recipes.queue.QueuePutListener;
import org.apache.curator.framework.recipes.queue.QueueSerializer;
import org.apache.curator.framework.state.ConnectionState;
import org.apache.curator.retry.ExponentialBackoffRetry;

/** The Curator side of run.py: src/main.rs says what a cell is. The warm-up is longer. */
public final class RecipeCell {
    private static final int CONTENDERS = 8;
    private static final int PRODUCERS = 2;
    private static final int CONSUMERS = 4;
    private static final int OUTSTANDING = 32;
    private static final byte[] ITEM = "x".repeat(100).getBytes();
    private static String server;

    private record Moment(long wall, long cpu) {
        static Moment now() {
            return new Moment(System.nanoTime(), ((com.sun.management.OperatingSystemMXBean)
                java.lang.management.ManagementFactory.getOperatingSystemMXBean())
                .getProcessCpuTime());
        }

        void report(Moment until, int count) {
            System.out.printf("{\"per_s\": %.1f, \"cpu_us\": %.1f}%n",
                count * 1e9 / (until.wall - wall), (until.cpu - cpu) / 1e3 / count);
        }
    }

    public static void main(String[] arguments) throws Exception {
        int count = Integer.parseInt(arguments[1]);
        server = arguments[2];
        switch (arguments[0]) {
            case "cycle" -> cycle(count);
            case "handoff" -> handoff(count);
            case "queue" -> queue(count, true);
            case "queue-once" -> queue(count, false);
            default -> throw new IllegalArgumentException(arguments[0]);
        }
        System.out.flush();
        Runtime.getRuntime().halt(0);
    }

    private static CuratorFramework client() throws Exception {
        CuratorFramework client = CuratorFrameworkFactory.builder().connectString(server)
            .sessionTimeoutMs(30_000).retryPolicy(new ExponentialBackoffRetry(100, 3)).build();
        client.start();
        client.blockUntilConnected();
        return client;
    }

    private static String path(String name) {
        return "/bench-" + ProcessHandle.current().pid() + "-" + name;
    }

    /** For the JIT compiler: as often as it takes, and no less than the others do. */
    private static int warmUp(int count) {
        return Math.max(count / 4, 3_000);
    }

    private static void cycle(int count) throws Exception {
        InterProcessMutex lock = new InterProcessMutex(client(), path("cycle"));
        int first = warmUp(count);
        Moment began = null;
        for (int number = 0; number < first + count; number++) {
            if (number == first) {
                began = Moment.now();
            }
            lock.acquire();
            lock.release();
        }
        began.report(Moment.now(), count);
    }

    private static void handoff(int count) throws Exception {
        AtomicInteger held = new AtomicInteger();
        int first = warmUp(count);
        int last = first + count;
        ConcurrentHashMap<Integer, Moment> moments = new ConcurrentHashMap<>();
        List<Callable<Void>> contenders = new ArrayList<>();
        for (int i = 0; i < CONTENDERS; i++) {
            InterProcessMutex lock = new InterProcessMutex(client(), path("handoff"));
            contenders.add(() -> {
                while (true) {
                    lock.acquire();
                    int number = held.getAndIncrement();
                    if (number == first || number == last) {
                        moments.put(number, Moment.now());
                    }
                    lock.release();
                    if (number >= last) {
                        return null;
                    }
                }
            });
        }
        all(contenders);
        moments.get(first).report(moments.get(last), count);
    }

    private static void all(List<Callable<Void>> work) throws Exception {
        ExecutorService threads = Executors.newCachedThreadPool();
        for (Future<Void> done : threads.invokeAll(work)) {
            done.get();
        }
    }

    private static void queue(int count, boolean locks) throws Exception {
        List<CuratorFramework> clients = new ArrayList<>();
        for (int i = 0; i < PRODUCERS + CONSUMERS; i++) {
            clients.add(client());
        }
        run(clients, path("warm-up"), warmUp(count), locks);
        Moment began = Moment.now();
        run(clients, path("queue"), count, locks);
        began.report(Moment.now(), count);
    }

    private static void run(List<CuratorFramework> clients, String path, int count, boolean locks)
            throws Exception {
        CountDownLatch left = new CountDownLatch(count);
        List<DistributedQueue<byte[]>> queues = new ArrayList<>();
        for (int i = 0; i < PRODUCERS + CONSUMERS; i++) {
            QueueBuilder<byte[]> builder = QueueBuilder.builder(clients.get(i),
                i < PRODUCERS ? null : consumer(left), BYTES, path);
            DistributedQueue<byte[]> queue =
                (locks ? builder.lockPath(path + "-locks") : builder).buildQueue();
            queue.start();
            queues.add(queue);
        }
        List<Callable<Void>> producers = new ArrayList<>();
        for (int i = 0; i < PRODUCERS; i++) {
            DistributedQueue<byte[]> queue = queues.get(i);
            // Puts are in the background, as Curator has them: so many on their way.
            Semaphore free = new Semaphore(OUTSTANDING);
            queue.getPutListenerContainer().addListener(
                new QueuePutListener<byte[]>() {
                    @Override
                    public void putCompleted(byte[] item) {
                        free.release();
                    }

                    @Override
                    public void putMultiCompleted(
                        MultiItem<byte[]> items) { }
                });
            producers.add(() -> {
                for (int put = 0; put < count / PRODUCERS; put++) {
                    free.acquire();
                    queue.put(ITEM);
                }
                return null;
            });
        }
        all(producers);
        left.await(10, TimeUnit.MINUTES);
        for (DistributedQueue<byte[]> queue : queues) {
            queue.close();
        }
    }

    private static QueueConsumer<byte[]> consumer(CountDownLatch left) {
        return new QueueConsumer<>() {
            @Override
            public void consumeMessage(byte[] item) {
                left.countDown();
            }

            @Override
            public void stateChanged(CuratorFramework client, ConnectionState state) { }
        };
    }

    private static final QueueSerializer<byte[]> BYTES = new QueueSerializer<>() {
        @Override
        public byte[] serialize(byte[] item) {
            return item;
        }

        @Override
        public byte[] deserialize(byte[] bytes) {
            return bytes;
        }
    };
}
