//! rtnetlink, nf_tables, and the topology S-G.
