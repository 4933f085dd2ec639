"""What CALL carries out: procedures by Spark's names, with Spark's parameters and results."""
