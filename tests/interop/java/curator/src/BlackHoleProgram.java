import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.CuratorFrameworkFactory;
import org.apache.curator.retry.RetryNTimes;
import org.apache.zookeeper.CreateMode;

/**
 * Curator clients that hold one ephemeral znode each, and say when they learn of what: a line
 * {@code STATE number milliseconds}. Arguments: the session timeout, then a server for each.
 */
public final class BlackHoleProgram {
    public static void main(String[] arguments) throws Exception {
        int timeout = Integer.parseInt(arguments[0]);
        for (int number = 1; number < arguments.length; number++) {
            int name = number - 1;
            CuratorFramework client = CuratorFrameworkFactory.newClient(
                arguments[number], timeout, timeout, new RetryNTimes(1, 100));
            client.getConnectionStateListenable().addListener((curator, state) -> say(
                state.name(), name));
            client.start();
            client.create().withMode(CreateMode.EPHEMERAL).forPath("/hole-curator-" + name);
            say("READY", name);
        }
        // Until the other end of the pipe is closed.
        while (System.in.read() >= 0) { }
        Runtime.getRuntime().halt(0);
    }

    private static synchronized void say(String what, int number) {
        System.out.println(what + " " + number + " " + System.currentTimeMillis());
        System.out.flush();
    }
}
