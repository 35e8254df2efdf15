"""The service under load: many clients with good and hostile files, beside the batch scorer."""
