//! The command line tools of the C library rabbitmq-c: declare, publish, get, consume, delete.
