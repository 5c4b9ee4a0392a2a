import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.Scanner;
import java.util.concurrent.TimeUnit;
import java.util.function.BooleanSupplier;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.CuratorFrameworkFactory;
import org.apache.curator.framework.recipes.leader.LeaderLatch;
import org.apache.curator.framework.recipes.locks.InterProcessMutex;
import org.apache.curator.framework.state.ConnectionState;
import org.apache.curator.retry.ExponentialBackoffRetry;
import org.apache.zookeeper.CreateMode;

/**
 * Curator clients of an ensemble whose leader goes away. The argument is the connect string. For
 * each line {@code port what} on standard input a client is found that is connected to that port;
 * {@code READY} asks for the server to be ended, and {@code OK} or {@code FAIL} says what came of
 * it.
 */
public final class FailoverProgram {
    private static final int PATIENCE_S = 30;
    private static final int CLIENTS_MAX = 100;
    private static String hosts;

    public static void main(String[] arguments) {
        hosts = arguments[0];
        int failures = 0;
        Scanner input = new Scanner(System.in);
        while (input.hasNext()) {
            int port = input.nextInt();
            String what = input.nextLine().trim();
            try {
                round(port, "/failover-" + Long.toHexString(System.nanoTime()));
                say("OK " + what);
            } catch (Throwable error) {
                failures++;
                say("FAIL " + what + ": " + error);
            }
        }
        Runtime.getRuntime().halt(failures == 0 ? 0 : 1);
    }

    private static void round(int port, String root) throws Exception {
        try (CuratorFramework witness = client(); CuratorFramework client = clientOn(port)) {
            List<ConnectionState> states = Collections.synchronizedList(new ArrayList<>());
            client.getConnectionStateListenable().addListener((curator, state) -> {
                // That of the first connection may still be on its way.
                if (state != ConnectionState.CONNECTED) {
                    states.add(state);
                }
            });
            long session = session(client);
            client.create().creatingParentsIfNeeded().withMode(CreateMode.EPHEMERAL)
                .forPath(root + "/ephemeral");
            client.create().forPath(root + "/data", bytes("before"));
            InterProcessMutex mutex = new InterProcessMutex(client, root + "/mutex");
            mutex.acquire();
            LeaderLatch latch = new LeaderLatch(client, root + "/latch", "first");
            latch.start();
            latch.await();

            say("READY");
            until(() -> states.contains(ConnectionState.RECONNECTED), "reconnected");
            check(states.equals(Arrays.asList(
                ConnectionState.SUSPENDED, ConnectionState.RECONNECTED)), "states " + states);
            check(session(client) == session, "the same session");
            client.setData().forPath(root + "/data", bytes("after"));
            witness.sync().forPath(root);
            check(Arrays.equals(witness.getData().forPath(root + "/data"), bytes("after")),
                "another client reads what was written");
            check(witness.checkExists().forPath(root + "/ephemeral").getEphemeralOwner() == session,
                "the ephemeral znode is there, and still this session's");
            InterProcessMutex other = new InterProcessMutex(witness, root + "/mutex");
            check(!other.acquire(500, TimeUnit.MILLISECONDS), "the mutex is held");
            mutex.release();
            check(other.acquire(PATIENCE_S, TimeUnit.SECONDS), "the mutex goes to the next");
            // The latch gives up its leadership while it is suspended, and takes it again.
            until(latch::hasLeadership, "the latch leads again");
            check(!states.contains(ConnectionState.LOST), "the session was never lost");
            latch.close();
        }
    }

    private static CuratorFramework client() throws Exception {
        CuratorFramework client = CuratorFrameworkFactory.builder()
            .connectString(hosts).sessionTimeoutMs(15000).connectionTimeoutMs(10000)
            .retryPolicy(new ExponentialBackoffRetry(100, 8)).build();
        client.start();
        check(client.blockUntilConnected(PATIENCE_S, TimeUnit.SECONDS), "connected");
        return client;
    }

    /** Clients choose at random among the servers. */
    private static CuratorFramework clientOn(int port) throws Exception {
        for (int attempt = 0; attempt < CLIENTS_MAX; attempt++) {
            CuratorFramework client = client();
            String connection = client.getZookeeperClient().getZooKeeper().toString();
            if (connection.contains("remoteserver:") && connection.replaceAll(
                    ".*remoteserver:\\S*?:(\\d+).*", "$1").equals(Integer.toString(port))) {
                return client;
            }
            client.close();
        }
        throw new IllegalStateException("no client came to port " + port);
    }

    private static long session(CuratorFramework client) throws Exception {
        return client.getZookeeperClient().getZooKeeper().getSessionId();
    }

    private static void check(boolean condition, String what) {
        if (!condition) {
            throw new IllegalStateException("not so: " + what);
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

    private static void say(String line) {
        System.out.println(line);
        System.out.flush();
    }
}
