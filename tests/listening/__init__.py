"""How gateways listen on TCP: real sockets, certificates made on the spot."""
