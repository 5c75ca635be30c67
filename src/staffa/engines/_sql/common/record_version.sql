insert into staffa_schema (version) values (:version)
