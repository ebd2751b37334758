#!/bin/sh
# Builds the peer ExchangeCoreBook.java outside of the tree, with javac alone: `exchange_core_build.sh FOLDER`.
#
# FOLDER has clones of exchange-core/exchange-core and exchange-core/collections, and receives the program
# `exchange_core_book`. Debian: openjdk-17-jdk-headless, liblombok-java, libslf4j-java. What those sources name and a book never
# calls (serialization, the validation of hash maps, the pipeline) is stood for by empty classes made here.
set -eu
folder=$(cd "$1" && pwd)
here=$(cd "$(dirname "$0")" && pwd)
jars=/usr/share/java
outside=$folder/outside

stand_in() { # package, class, the rest of the declaration
    mkdir -p "$outside/$(echo "$1" | tr . /)"
    printf 'package %s;\n%s\n' "$1" "$3" >"$outside/$(echo "$1" | tr . /)/$2.java"
}

bytes=net.openhft.chronicle.bytes
maps=org.eclipse.collections.impl.map.mutable.primitive
stand_in exchange.core2.core ExchangeCore 'public final class ExchangeCore { public static final boolean EVENTS_POOLING = false; }'
stand_in exchange.core2.core.utils SerializationUtils 'public final class SerializationUtils {
    public static net.openhft.chronicle.wire.Wire longsToWire(long[] words) { throw new UnsupportedOperationException(); }
    public static long[] bytesToLongArray(net.openhft.chronicle.bytes.NativeBytes<Void> bytes, int padding) { throw new UnsupportedOperationException(); }
    public static <V, M extends java.util.Map<Long, V>> M readLongMap(net.openhft.chronicle.bytes.BytesIn bytes, java.util.function.Supplier<M> map,
        java.util.function.Function<net.openhft.chronicle.bytes.BytesIn, V> value) { throw new UnsupportedOperationException(); }
    public static void marshallLongMap(java.util.Map<Long, ?> map, net.openhft.chronicle.bytes.BytesOut bytes) { throw new UnsupportedOperationException(); }
}'
stand_in exchange.core2.core.utils HashingUtils 'public final class HashingUtils {
    public static int stateHashStream(java.util.stream.Stream<? extends exchange.core2.core.common.StateHash> stream) { throw new UnsupportedOperationException(); }
}'
stand_in $bytes BytesIn 'public interface BytesIn { int readInt(); long readLong(); byte readByte(); boolean readBoolean(); }'
stand_in $bytes BytesOut 'public interface BytesOut { BytesOut writeInt(int word); BytesOut writeLong(long word); BytesOut writeByte(byte word); BytesOut writeBoolean(boolean word); }'
stand_in $bytes WriteBytesMarshallable 'public interface WriteBytesMarshallable { void writeMarshallable(BytesOut bytes); }'
stand_in $bytes NativeBytes 'public interface NativeBytes<T> { long readRemaining(); long readLong(); byte readByte(); long read(byte[] to); }'
stand_in net.openhft.chronicle.wire Wire 'public interface Wire { }'
stand_in org.jetbrains.annotations NotNull 'public @interface NotNull { }'
stand_in $maps LongObjectHashMap 'public final class LongObjectHashMap<V> extends java.util.HashMap<Long, V> { }'
stand_in org.agrona.collections Long2ObjectHashMap 'public final class Long2ObjectHashMap<V> extends java.util.HashMap<Long, V> {
    public Long2ObjectHashMap(int capacity, float load) { super(capacity, load); }
}'
stand_in org.agrona.collections MutableInteger 'public final class MutableInteger { public int value; }'
stand_in org.agrona.collections MutableLong 'public final class MutableLong { public long value; }'

mkdir -p "$folder/classes"
core=$folder/exchange-core/src/main/java/exchange/core2/core
collections=$folder/collections/src/main/java/exchange/core2/collections
# Lombok sees what is named here, and not what the compiler finds by itself.
javac -nowarn -d "$folder/classes" -cp "$jars/lombok.jar:$jars/slf4j-api.jar" -sourcepath "$outside" "$here/ExchangeCoreBook.java" \
    "$core"/orderbook/*.java "$core"/common/[ILMO]*.java "$core"/common/CoreSymbolSpecification.java "$core"/common/StateHash.java \
    "$core"/common/SymbolType.java "$core"/common/cmd/*.java "$core"/common/config/LoggingConfiguration.java \
    "$collections"/art/*.java "$collections"/objpool/*.java
cat >"$folder/exchange_core_book" <<END
#!/bin/sh
exec java -Xms2g -Xmx2g -XX:+UseSerialGC -cp "$folder/classes:$jars/slf4j-api.jar:$jars/slf4j-nop.jar" ExchangeCoreBook "\$@"
END
chmod +x "$folder/exchange_core_book"
