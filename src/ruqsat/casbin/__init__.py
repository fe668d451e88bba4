"""The room of Casbin: the only one that imports pycasbin, as the oracle of our compiler."""
