"""Risk owns accounts, balances and open orders: one process reserves (accepts or refuses) and settles (the ledger), in command order.

``state`` the tables · ``ledger`` balances and hold rows · ``orders`` what an order holds · ``reserve`` verdicts ·
``settle`` the ledger's only writer · ``outcomes`` what is told of it · ``outbox`` risk's own commands · ``bands``
reference prices · ``hashes`` state hash and conservation · ``rings`` the rings as kernels take them · ``kernel`` the
step over rings · ``views`` reading the tables from other processes · ``process`` the wrapper.
"""
