"""Many small problems with few labels, made of real data sets: what fusion and label curves are judged on."""
