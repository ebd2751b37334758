/* A peer for the matcher bench: exchange-core's OrderBookDirectImpl over the same XFLOW001 file, in one thread.

   Only this file is ours; exchange_core_build.sh builds it outside of the tree. The pools of objects are as large as exchange-core makes them. Four whole passes come before those that count,
   so that the compiler has seen everything. Arguments and output: as of book_limit.c. */

import exchange.core2.collections.objpool.ObjectsPool;
import exchange.core2.core.common.CoreSymbolSpecification;
import exchange.core2.core.common.MatcherEventType;
import exchange.core2.core.common.MatcherTradeEvent;
import exchange.core2.core.common.OrderAction;
import exchange.core2.core.common.OrderType;
import exchange.core2.core.common.SymbolType;
import exchange.core2.core.common.cmd.CommandResultCode;
import exchange.core2.core.common.cmd.OrderCommand;
import exchange.core2.core.common.cmd.OrderCommandType;
import exchange.core2.core.common.config.LoggingConfiguration;
import exchange.core2.core.orderbook.OrderBookDirectImpl;
import exchange.core2.core.orderbook.OrderBookEventsHelper;
import java.io.IOException;
import java.lang.management.ManagementFactory;
import java.lang.management.ThreadMXBean;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.Map;

public final class ExchangeCoreBook {
    private static final long HASH_START = 0xCBF29CE484222325L;
    private static final long HASH_FACTOR = 1099511628211L;
    private static final int STRETCH = 4096;
    private static final int WARM_PASSES = 4;
    private static final int HEADER_BYTES = 64;
    private static final int RECORD_BYTES = 32;

    private final ThreadMXBean clocks = ManagementFactory.getThreadMXBean();
    private final int prefill;
    private final int total;
    private final long[] ids;
    private final long[] prices;
    private final long[] quantities;
    private final byte[] types;
    private final byte[] sides;
    private long trades;
    private long hash;

    private ExchangeCoreBook(ByteBuffer file) {
        prefill = (int) file.getLong(16);
        total = (int) file.getLong(24);
        ids = new long[total];
        prices = new long[total];
        quantities = new long[total];
        types = new byte[total];
        sides = new byte[total];
        for (int k = 0; k < total; k++) {
            int at = HEADER_BYTES + k * RECORD_BYTES;
            ids[k] = file.getLong(at);
            prices[k] = file.getLong(at + 8);
            quantities[k] = file.getLong(at + 16);
            types[k] = file.get(at + 24);
            sides[k] = file.get(at + 25);
        }
    }

    public static void main(String[] arguments) throws IOException {
        ByteBuffer file = arguments.length == 2 ? ByteBuffer.wrap(Files.readAllBytes(Path.of(arguments[0]))) : ByteBuffer.allocate(0);
        if (file.remaining() < HEADER_BYTES || !new String(file.array(), 0, 8).equals("XFLOW001")) {
            System.err.println("usage: exchange_core_book FILE RUNS, with an XFLOW001 file");
            System.exit(2);
        }
        ExchangeCoreBook flow = new ExchangeCoreBook(file.order(ByteOrder.LITTLE_ENDIAN));
        for (int k = 0; k < WARM_PASSES; k++)
            flow.run();
        for (int k = 0; k < Integer.parseInt(arguments[1]); k++)
            System.out.println(flow.run());
    }

    private static OrderBookDirectImpl book() {
        Map<Integer, Integer> sizes = new HashMap<>();
        sizes.put(ObjectsPool.DIRECT_ORDER, 1024 * 1024);
        sizes.put(ObjectsPool.DIRECT_BUCKET, 1024 * 64);
        sizes.put(ObjectsPool.ART_NODE_4, 1024 * 32);
        sizes.put(ObjectsPool.ART_NODE_16, 1024 * 16);
        sizes.put(ObjectsPool.ART_NODE_48, 1024 * 8);
        sizes.put(ObjectsPool.ART_NODE_256, 1024 * 4);
        CoreSymbolSpecification symbol = CoreSymbolSpecification.builder().symbolId(1).type(SymbolType.FUTURES_CONTRACT).build();
        return new OrderBookDirectImpl(symbol, new ObjectsPool(sizes), OrderBookEventsHelper.NON_POOLED_EVENTS_HELPER, LoggingConfiguration.DEFAULT);
    }

    private String run() {
        OrderBookDirectImpl book = book();
        OrderCommand command = new OrderCommand();
        trades = 0;
        hash = HASH_START;
        for (int k = 0; k < prefill; k++)
            apply(book, command, k);
        System.gc();
        long[] marks = new long[(total - prefill) / STRETCH + 2];
        int stretches = 0;
        long beganCpu = clocks.getCurrentThreadCpuTime();
        long began = System.nanoTime();
        for (int k = prefill; k < total; k++) {
            if ((k - prefill) % STRETCH == 0)
                marks[stretches++] = System.nanoTime();
            apply(book, command, k);
        }
        long took = System.nanoTime() - began;
        long cpu = clocks.getCurrentThreadCpuTime() - beganCpu;
        marks[stretches] = began + took;
        StringBuilder line = new StringBuilder();
        line.append(took).append(' ').append(cpu).append(' ').append(trades).append(' ').append(Long.toUnsignedString(hash));
        for (int k = 0; k < stretches; k++)
            line.append(' ').append(marks[k + 1] - marks[k]);
        return line.toString();
    }

    private void apply(OrderBookDirectImpl book, OrderCommand command, int k) {
        byte type = types[k];
        command.orderId = ids[k];
        command.uid = 1;
        command.price = prices[k];
        command.matcherEvent = null;
        CommandResultCode result = CommandResultCode.SUCCESS;
        if (type == 2) {
            command.command = OrderCommandType.CANCEL_ORDER;
            result = book.cancelOrder(command);
        } else if (type == 3) {
            command.command = OrderCommandType.MOVE_ORDER;
            result = book.moveOrder(command);
        } else {
            command.command = OrderCommandType.PLACE_ORDER;
            command.orderType = type == 1 ? OrderType.IOC : OrderType.GTC;
            command.size = quantities[k];
            command.reserveBidPrice = prices[k];
            command.action = sides[k] == 0 ? OrderAction.BID : OrderAction.ASK;
            book.newOrder(command);
        }
        if (result != CommandResultCode.SUCCESS)
            throw new IllegalStateException("record " + k + ": " + result);
        for (MatcherTradeEvent event = command.matcherEvent; event != null; event = event.nextEvent) {
            if (event.eventType != MatcherEventType.TRADE)
                continue;
            trades++;
            hash = hash * HASH_FACTOR + event.matchedOrderId * 31 + ids[k] * 17 + event.price * 7 + event.size;
        }
    }
}
