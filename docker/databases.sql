-- Label Studio's database is the one named by POSTGRES_DB; this is the backend's.
CREATE DATABASE active_learning;
