project        = "my-project"
administrators = { office = "203.0.113.0/24" }
