"""How many nodes, disks, requests and how much money a workload needs, from measured figures."""
