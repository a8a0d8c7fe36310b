from alembic.operations import MigrateOperation, Operations


@Operations.register_operation('create_audit_trigger')
class CreateAuditTrigger(MigrateOperation):
    def __init__(self, table):
        self.table = table

    @classmethod
    def create_audit_trigger(cls, operations, table):
        return operations.invoke(cls(table))

    def reverse(self):
        raise NotImplementedError


@Operations.implementation_for(CreateAuditTrigger)
def create_audit_trigger(operations, operation):
    operations.execute(f"""
        CREATE OR REPLACE FUNCTION audit() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN INSERT INTO audit (what) VALUES (TG_TABLE_NAME || ';' || TG_OP); RETURN NULL; END $$;
        CREATE TRIGGER audit_{operation.table} AFTER INSERT OR UPDATE ON {operation.table}
            FOR EACH STATEMENT EXECUTE FUNCTION audit();
    """)
