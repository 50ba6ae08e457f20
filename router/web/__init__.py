"""The gateway: what guides reach with a browser. It reads Redis and writes to Kafka, without Faust."""
