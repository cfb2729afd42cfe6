//! Every service against servers that do what no server should.
