# Keeps lines in chDB and answers queries, one a line: `once SQL`, or `time SQL` over and over for a while.
import json
import sys
import time

try:
    from chdb import session
except ImportError:
    sys.exit(print("missing"))
print("there", flush=True)

folder, lines = sys.argv[1:]
sys.stdin.readline()
store = session.Session(folder)
# The filter of a granule, 8,192 lines with some 60,000 words, takes one of 50 for there that is not.
store.query("""
    CREATE TABLE lines (
        tenant LowCardinality(String), time UInt64, line String CODEC(ZSTD(3)),
        INDEX words line TYPE tokenbf_v1(65536, 3, 0) GRANULARITY 1
    ) ENGINE = MergeTree ORDER BY (tenant, time)
""")
store.query(f"INSERT INTO lines SELECT * FROM file('{lines}', TSV, 'tenant String, time UInt64, line String')")
store.query("OPTIMIZE TABLE lines FINAL")
print("filled", flush=True)

for asked in sys.stdin:
    how, sql = asked.rstrip("\n").split(" ", 1)
    waited, began, used = [], time.perf_counter(), time.process_time()
    while not waited or how == "time" and (len(waited) < 5 or time.perf_counter() - began < 0.2):
        started = time.perf_counter()
        answer = store.query(sql, "TabSeparated").bytes()
        waited.append((time.perf_counter() - started) * 1e3)
    processor = (time.process_time() - used) * 1e3 / len(waited)
    rows = answer.count(b"\n")
    value = int(answer) if answer.strip().isdigit() else None
    told = {"rows": rows, "value": value, "waited": sorted(waited)[len(waited) // 2], "processor": processor}
    print(json.dumps(told), flush=True)
