//! One backend per port that lives in memory: the reference of what a port means, and a company's test double.
