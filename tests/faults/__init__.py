"""What the router must survive, row by row: ``rows`` is the table, ``make faults`` runs it.

``worker`` is the real worker command with ``hooks`` installed: they kill it at a point of the way, make a
record raise or hang, or stand between the router and its clients. They live here and never in the product.
"""
