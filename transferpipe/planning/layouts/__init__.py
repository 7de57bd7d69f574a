"""How other frameworks name and arrange the weights of a layer: one module of plain data a framework and family."""
