-- A person is erased by dropping what ties the pseudonymous principal to them; the principal stays, as the log names it.
grant delete on principal_identities to maestro_app;
