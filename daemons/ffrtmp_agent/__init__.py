"""ffrtmp-agent: one a host. Starts and watches attempts, ships their logs, publishes their outputs."""
