import java.util.concurrent.CompletionStage;
import java.util.concurrent.Semaphore;
import java.util.concurrent.atomic.AtomicReference;
import java.util.function.IntFunction;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.CuratorFrameworkFactory;
import org.apache.curator.retry.RetryNTimes;
import org.apache.curator.x.async.AsyncCuratorFramework;

/**
 * One cell of the comparison with Curator's async API: the same work as src/main.rs, the same line
 * of JSON. The warm-up is longer, so that the JIT compiler's work is not counted against it.
 */
public final class CuratorCell {
    public static void main(String[] arguments) throws Exception {
        String operation = arguments[0];
        int outstanding = Integer.parseInt(arguments[1]);
        int operations = Integer.parseInt(arguments[2]);
        String server = arguments[3];
        byte[] data = "x".repeat(100).getBytes();
        CuratorFramework curator =
            CuratorFrameworkFactory.newClient(server, new RetryNTimes(0, 0));
        curator.start();
        String parent = "/bench-" + ProcessHandle.current().pid() + "-" + operation;
        curator.create().forPath(parent, data);
        AsyncCuratorFramework client = AsyncCuratorFramework.wrap(curator);
        IntFunction<CompletionStage<?>> call = switch (operation) {
            case "get" -> number -> client.getData().forPath(parent);
            case "set" -> number -> client.setData().forPath(parent, data);
            case "create" -> number -> client.create().forPath(parent + "/" + number, data);
            default -> throw new IllegalArgumentException(operation);
        };
        int warmUp = Math.max(operations, 30_000);
        all(outstanding, 0, warmUp, call);
        long cpu = cpuNanos();
        long began = System.nanoTime();
        all(outstanding, warmUp, warmUp + operations, call);
        long wall = System.nanoTime() - began;
        cpu = cpuNanos() - cpu;
        System.out.printf("{\"ops_per_s\": %.0f, \"cpu_us_per_op\": %.2f}%n",
            operations * 1e9 / wall, cpu / 1e3 / operations);
        System.out.flush();
        // The caller deletes what was made: here it would take longer than the measurement.
        Runtime.getRuntime().halt(0);
    }

    private static void all(int outstanding, int from, int to, IntFunction<CompletionStage<?>> call)
            throws Exception {
        Semaphore free = new Semaphore(outstanding);
        AtomicReference<Throwable> failed = new AtomicReference<>();
        for (int number = from; number < to; number++) {
            free.acquire();
            call.apply(number).whenComplete((answer, error) -> {
                if (error != null) {
                    failed.compareAndSet(null, error);
                }
                free.release();
            });
        }
        free.acquire(outstanding);
        if (failed.get() != null) {
            throw new IllegalStateException(failed.get());
        }
    }

    private static long cpuNanos() {
        return ((com.sun.management.OperatingSystemMXBean)
            java.lang.management.ManagementFactory.getOperatingSystemMXBean()).getProcessCpuTime();
    }
}
