"""ffrtmp-master: accepts jobs, orders them, hands them to agents, keeps their history and logs."""
