"""How every gateway listens on TCP: typed ``settings``, ``certificates`` renewed in use, a ``listener`` that bounds strangers."""
