select version from staffa_schema order by version
